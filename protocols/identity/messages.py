"""What the identities of two peers say to each other, and what the other services of a peer say to its own.

    prover                                        issuer
    ProofRequest   what it wants to prove for --> remembers a challenge
                   <-- Challenge                  for this device, on this session, for this
    Proof          the challenge, signed -------> forgets the challenge, tells its watchers
                   <-- Accepted                   or a refusal that names its reason

The prover begins. A challenge that comes out of the blue would have it sign what somebody else chose, and it would
have to decide then what it never asked for.
"""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from protocols.identity.certificates import DeviceCertificate
from protocols.identity.signing import Signature
from protocols.messages import Codec, Key32, Message, Uint64

CHANNEL_SIZE_MAX: Final = 64
"""A channel's id is a hash or a short name."""
KEY_PACKAGE_SIZE_MAX: Final = 64
"""An MLS KeyPackageRef (RFC 9420 §5.2) is a hash: 64 bytes with SHA-512."""
MESSAGE_SIZE_MAX: Final = 1024
"""The largest, a proof with a certificate, has 758."""

Channel = Annotated[bytes, Meta(max_length=CHANNEL_SIZE_MAX)]
KeyPackageRef = Annotated[bytes, Meta(max_length=KEY_PACKAGE_SIZE_MAX)]


class ProofPurpose(StrEnum):
    """What a device proves its key for. A proof for one says nothing for another."""

    ADD_TO_CHANNEL = "add-to-channel"
    """Be added to a group, with the key package that it names."""
    REJOIN_CHANNEL = "rejoin-channel"
    """Replace its own leaf in a group whose thread it lost."""
    ADD_DEVICE = "add-device"
    """Become a device of the issuer's user."""
    REPLACE_DEVICE = "replace-device"
    """Take over from another device of its user."""


# -- between peers ------------------------------------------------------------------------------------


class ProofRequest(Message, frozen=True, gc=False, tag="id.request"):
    """Challenge me: the device at the other end of this session."""

    purpose: ProofPurpose
    channel: Channel = b""
    key_package: KeyPackageRef = b""
    """What is to be added, if it is a key package."""


class Challenge(Message, frozen=True, gc=False, tag="id.challenge"):
    """Sign this if you have the key. Nothing of it can be left out or exchanged: see ``possession``."""

    nonce: Key32
    issued_at: Uint64
    """By the issuer's clock, which is the only one that is asked."""
    device: Key32
    """Whose key is to be shown."""
    issuer: Key32
    purpose: ProofPurpose
    channel: Channel
    binding: Key32
    """The handshake hash of the session (Noise §11.2): relayed over two others, it is another."""
    key_package: KeyPackageRef


class Proof(Message, frozen=True, tag="id.proof"):
    """The whole challenge, and its device's signature over it and the certificate."""

    challenge: Challenge
    certificate: DeviceCertificate | None
    """Of the user whose device it is, if it says so."""
    signature: Signature


class Accepted(Message, frozen=True, gc=False, tag="id.accepted"):
    """The proof for the challenge with this nonce is good."""

    nonce: Key32


class CertificateRequest(Message, frozen=True, gc=False, tag="id.certificate"):
    """Whose device are you?"""


class CertificateAnswer(Message, frozen=True, tag="id.certified"):
    """This user's; or nobody's that I would name."""

    certificate: DeviceCertificate | None


REQUESTS: Final[Codec[ProofRequest | Proof | CertificateRequest]] = Codec(
    ProofRequest, Proof, CertificateRequest, size_max=MESSAGE_SIZE_MAX
)
ANSWERS: Final[Codec[Challenge | Accepted | CertificateAnswer]] = Codec(
    Challenge, Accepted, CertificateAnswer, size_max=MESSAGE_SIZE_MAX
)


# -- inside a peer ------------------------------------------------------------------------------------


class Prove(Message, frozen=True, tag="id.prove"):
    """Prove to ``device`` that we have our key; answered by ``ProofAccepted`` or ``ProofRefused``."""

    token: Uint64
    """Chosen by the service; unique among what it has open here."""
    device: Key32
    endpoint: Uint64
    purpose: ProofPurpose
    channel: Channel = b""
    key_package: KeyPackageRef = b""


class ProofAccepted(Message, frozen=True, tag="id.proof_accepted"):
    """The issuer is convinced."""

    token: Uint64
    device: Key32


class ProofRefused(Message, frozen=True, tag="id.proof_refused"):
    """It is not, or perhaps it is and its answer was lost. To ask again is safe: it makes a new challenge."""

    token: Uint64
    device: Key32
    reason: str
    """The issuer's, ours about the issuer, or why there was no answer: data, never a metric's label."""


class WatchProofs(Message, frozen=True, tag="id.watch"):
    """Challenge who asks for this purpose, and tell the sender of each ``DeviceProven``.

    For a purpose that nobody watches there are no challenges: a proof of which nobody learns would be accepted in vain.
    """

    purpose: ProofPurpose


class DeviceProven(Message, frozen=True, tag="id.proven"):
    """``device`` has shown that it has its key, now, for this; perhaps again, if it never heard that we believed it.

    It says whose key it is, not what that device may: whether its certificate has been revoked, and is for what is
    wanted here, is the roster's answer.
    """

    device: Key32
    purpose: ProofPurpose
    channel: Channel
    key_package: KeyPackageRef
    certificate: DeviceCertificate | None
    """Signed by both, and valid at ``at``."""
    at: Uint64
    """When, by our clock."""

    @property
    def user(self) -> bytes:
        """The key of the user whose device it is; empty if it did not say."""
        return b"" if self.certificate is None else self.certificate.user


class AskCertificate(Message, frozen=True, tag="id.ask"):
    """Learn whose device this is; answered by ``CertificateKnown`` or ``CertificateUnknown``."""

    token: Uint64
    device: Key32
    endpoint: Uint64


class CertificateKnown(Message, frozen=True, tag="id.known"):
    """What the device answered. Both have signed it; its validity and its revocation are the asker's to judge."""

    token: Uint64
    device: Key32
    certificate: DeviceCertificate | None
    """Nothing: the device names nobody."""


class CertificateUnknown(Message, frozen=True, tag="id.unknown"):
    """There was no answer, or none that can be believed."""

    token: Uint64
    device: Key32
    reason: str
