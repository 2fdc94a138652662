"""Proof of possession: a device shows that it has its key, to one issuer, once, for one purpose, on one session.

A signature over a nonce is not enough. What the signer does not see he signs for whoever relays it to him, and
what the verifier does not remember he accepts twice. So the signature covers the whole challenge: the nonce and when it
was made, whose key and who asks, what for, and the hash of the handshake of the session between the two. The issuer
believes nothing of the challenge that comes back: it compares it with the one it kept. To keep none and authenticate
challenges instead, as cookies do, was rejected: each would be good for any number of proofs until it lapses.

**Single use.** A challenge ends with the proof that is accepted. A refused proof ends nothing and changes nothing, so
nobody can burn the challenge of somebody else; and who guesses at a signature gains nothing from more tries. Otherwise
a challenge ends ``LIFETIME_NS`` later by the issuer's clock, the only one that is asked, or when its place is needed: a
device that asks too often loses its own oldest one, a crowd of devices the oldest of all. Who lost one begins anew.

**Who is at fault** is for whoever knows the session to say; ``NOBODYS_FAULT`` has the reasons that honest devices meet.
"""

from typing import Final

import msgspec

from protocols.crypto import ED25519_PUBLIC_SIZE
from protocols.errors import LocalError, ProtocolError
from protocols.identity.certificates import DeviceCertificate
from protocols.identity.messages import Challenge, DeviceProven, Proof, ProofRequest
from protocols.identity.signing import Domain, SigningKey, sign, verify

NONCE_SIZE: Final = 32
BINDING_SIZE: Final = 32

LIFETIME_NS: Final = 300 * 10**9
"""Five minutes: long enough for a slow network and a person who unlocks a key, short enough to remember all of them."""

CHALLENGES_PER_DEVICE_MAX: Final = 8
"""Open at once for one device, which asks for as many purposes or channels at a time."""
CHALLENGES_MAX: Final = 1024
"""Open at once in all: 0.6 MB. A flood by 100 new devices a second still leaves ten seconds to answer."""
SPENT_MAX: Final = 1024
"""Spent nonces remembered until their challenges would have lapsed. Beyond that the oldest is forgotten: its proof is
refused as before, since its challenge is gone, but as ``unknown_challenge``."""

CERTIFICATE_VERIFICATIONS: Final = 2
"""Signatures on a certificate: the user's, and the device's consent."""

NEVER: Final = 2**63 - 1
STATE_VERSION: Final = 1


class PossessionError(ProtocolError):
    """A proof that proves nothing here, or a challenge that nobody should answer; nothing was changed.

    ``wrong_issuer``       it is for, or from, another issuer than the one at this end of the session
    ``wrong_key``          the session's device shows the proof of somebody else's key
    ``wrong_device``       another device than the challenged one answers; or we are asked for another's key
    ``future_dated``       it is from a later time than now: a lie, or our own clock was set back
    ``expired``            it is older than ``LIFETIME_NS``
    ``replayed``           its challenge was answered already
    ``unknown_challenge``  we made none with this nonce, or have lost it: in a restart, or for want of room
    ``cross_purpose``, ``wrong_channel``, ``wrong_key_package``, ``altered``
                           purpose, channel, key package, or time are not the challenge's (or not what we asked for)
    ``wrong_binding``      it is bound to another session
    ``bad_signature``      the device did not sign this
    ``wrong_certificate``  the certificate is another device's
    ``lapsed_certificate`` the certificate is not valid now
    ``unexpected_answer``  something else than a challenge, a verdict or a certificate where one was asked for

    A certificate that is not signed by both raises its own ``IdentityError``.
    """


NOBODYS_FAULT: Final = frozenset(
    {"future_dated", "expired", "unknown_challenge", "wrong_binding", "lapsed_certificate"}
)
"""What honest devices run into: clocks differ, networks are slow, issuers restart, and sessions are renewed between
the challenge and its proof."""

_FIELDS: Final = (
    ("device", "wrong_device"),
    ("purpose", "cross_purpose"),
    ("channel", "wrong_channel"),
    ("key_package", "wrong_key_package"),
    ("binding", "wrong_binding"),
    ("issued_at", "altered"),
)
"""Why a challenge is refused that differs in one of these from the one that was made."""

_ASKED: Final = _FIELDS[1:4]


def answer(
    challenge: Challenge,
    asked: ProofRequest,
    key: SigningKey,
    *,
    issuer: bytes,
    binding: bytes,
    certificate: DeviceCertificate | None = None,
) -> Proof:
    """The proof for a challenge that ``issuer`` gave for what we ``asked`` on the session ``binding`` names.

    No time is an argument: whether the challenge is still good is for its issuer's clock.

    Raises:
        PossessionError: it is not an honest answer to what we asked; nothing was signed.
        LocalError: the certificate is not this key's.
    """
    if certificate is not None and certificate.device != key.public:
        raise LocalError("a proof is shown with the certificate of another device")
    if challenge.issuer != issuer:
        raise PossessionError("wrong_issuer", f"a challenge by {challenge.issuer.hex()[:16]}")
    if challenge.device != key.public:
        raise PossessionError("wrong_device", f"a challenge for {challenge.device.hex()[:16]}")
    if challenge.binding != binding:
        raise PossessionError("wrong_binding", "a challenge for another session")
    _compare(challenge, asked, _ASKED)
    return Proof(challenge, certificate, sign(key, Domain.POSSESSION, *statement(challenge, certificate)))


class Challenger:
    """The issuer: makes challenges, and takes each back once."""

    __slots__ = ("_by_device", "_due_at", "_issuer", "_open", "_spent", "verifications")

    def __init__(self, issuer: bytes) -> None:
        self._issuer = issuer
        self._open: dict[bytes, Challenge] = {}  # by nonce, the oldest first
        self._by_device: dict[bytes, tuple[bytes, ...]] = {}
        self._spent: dict[bytes, int] = {}  # nonce -> until when it could be replayed
        self._due_at = NEVER
        self.verifications = 0
        """Ed25519 verifications done so far, in vain or not, for who accounts for CPU time; no part of the state."""

    def __len__(self) -> int:
        """Challenges and spent nonces held, lapsed ones not yet swept included."""
        return len(self._open) + len(self._spent)

    def issue(self, asked: ProofRequest, *, device: bytes, binding: bytes, now: int, nonce: bytes) -> Challenge:
        """A challenge for ``device``, at the other end of the session that ``binding`` names.

        Raises:
            LocalError: the nonce has been used, or something has the wrong length.
        """
        if len(nonce) != NONCE_SIZE or nonce in self._open or nonce in self._spent:
            raise LocalError(f"a challenge takes {NONCE_SIZE} fresh bytes as its nonce")
        if len(device) != ED25519_PUBLIC_SIZE or len(binding) != BINDING_SIZE:
            raise LocalError(f"no challenge for a device of {len(device)} bytes on a session of {len(binding)}")
        of_device = self._by_device.get(device, ())
        if len(of_device) >= CHALLENGES_PER_DEVICE_MAX:
            self._forget(of_device[0])
        elif len(self._open) >= CHALLENGES_MAX:
            self._forget(next(iter(self._open)))
        challenge = Challenge(
            nonce, now, device, self._issuer, asked.purpose, asked.channel, binding, asked.key_package
        )
        self._insert(challenge)
        self._due_at = min(self._due_at, now + LIFETIME_NS)
        return challenge

    def check(self, proof: Proof, *, device: bytes, binding: bytes, now: int) -> DeviceProven:
        """What ``proof`` shows, coming from ``device`` over the session that ``binding`` names.

        Raises:
            PossessionError: nothing.
            IdentityError: ``bad_certificate``, ``bad_request``: its certificate is not signed by both.
        """
        said = proof.challenge
        if said.issuer != self._issuer:
            raise PossessionError("wrong_issuer", f"a proof for {said.issuer.hex()[:16]}")
        if said.device != device:
            raise PossessionError("wrong_key", f"{device.hex()[:16]} shows a proof of {said.device.hex()[:16]}")
        self._find(said, now)
        if said.binding != binding:
            raise PossessionError("wrong_binding", "the challenge was given on another session")
        self.verifications += 1
        fields = statement(said, proof.certificate)
        if not verify(device, Domain.POSSESSION, *fields, signature=proof.signature):
            raise PossessionError("bad_signature", f"not signed by {device.hex()[:16]}")
        if proof.certificate is not None:
            self._check_certificate(proof.certificate, device, now)

        self._forget(said.nonce)
        if len(self._spent) >= SPENT_MAX:
            del self._spent[next(iter(self._spent))]
        self._spent[said.nonce] = said.issued_at + LIFETIME_NS
        return DeviceProven(device, said.purpose, said.channel, said.key_package, proof.certificate, now)

    def _find(self, said: Challenge, now: int) -> None:
        """That there is a challenge, and it is this one. When lapsed ones were swept makes no difference."""
        if said.issued_at > now:
            raise PossessionError("future_dated", f"issued at {said.issued_at}; it is {now}")
        if now < self._spent.get(said.nonce, 0):
            raise PossessionError("replayed", f"challenge {said.nonce.hex()[:16]}")
        issued = self._open.get(said.nonce)
        if issued is not None and now < issued.issued_at + LIFETIME_NS:
            _compare(said, issued, _FIELDS)
        elif now >= said.issued_at + LIFETIME_NS:
            raise PossessionError("expired", f"issued at {said.issued_at}; it is {now}")
        else:
            raise PossessionError("unknown_challenge", f"challenge {said.nonce.hex()[:16]}")

    def _check_certificate(self, certificate: DeviceCertificate, device: bytes, now: int) -> None:
        if certificate.device != device:
            raise PossessionError("wrong_certificate", f"for {certificate.device.hex()[:16]}")
        self.verifications += CERTIFICATE_VERIFICATIONS
        certificate.verify()
        if not certificate.not_before <= now < certificate.not_after:
            raise PossessionError(
                "lapsed_certificate", f"valid from {certificate.not_before} to {certificate.not_after}; it is {now}"
            )

    # -- told the time ------------------------------------------------------------------------------------

    def deadline(self) -> int | None:
        """When to call ``expire`` next; perhaps early, never late."""
        return self._due_at if self._due_at < NEVER else None

    def expire(self, now: int) -> None:
        """Give back the room of what has lapsed."""
        if now < self._due_at:
            return
        for nonce in [nonce for nonce, each in self._open.items() if now >= each.issued_at + LIFETIME_NS]:
            self._forget(nonce)
        for nonce in [nonce for nonce, until in self._spent.items() if now >= until]:
            del self._spent[nonce]
        lapses = [each.issued_at + LIFETIME_NS for each in self._open.values()]
        self._due_at = min([*lapses, *self._spent.values()], default=NEVER)

    # -- inside -------------------------------------------------------------------------------------------

    def _insert(self, challenge: Challenge) -> None:
        self._open[challenge.nonce] = challenge
        self._by_device[challenge.device] = (*self._by_device.get(challenge.device, ()), challenge.nonce)

    def _forget(self, nonce: bytes) -> None:
        device = self._open.pop(nonce).device
        left = tuple(each for each in self._by_device[device] if each != nonce)
        if left:
            self._by_device[device] = left
        else:
            del self._by_device[device]

    # -- to bytes and back --------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """No secrets: a nonce is worth nothing without the device's key."""
        state = _State(STATE_VERSION, list(self._open.values()), list(self._spent.items()), self._due_at)
        return msgspec.msgpack.encode(state)

    @classmethod
    def from_bytes(cls, data: bytes, issuer: bytes) -> "Challenger":
        try:
            state = msgspec.msgpack.decode(data, type=_State)
        except msgspec.DecodeError as error:
            raise LocalError(f"not saved challenges: {error}") from None
        if state.version != STATE_VERSION:
            raise LocalError(f"saved challenges of version {state.version}, not {STATE_VERSION}")
        challenger = cls(issuer)
        for challenge in state.open:
            challenger._insert(challenge)
        challenger._spent = dict(state.spent)
        challenger._due_at = state.due_at
        return challenger


class _State(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    open: list[Challenge]
    spent: list[tuple[bytes, int]]
    due_at: int


def _compare(challenge: Challenge, expected: Challenge | ProofRequest, fields: tuple[tuple[str, str], ...]) -> None:
    for name, reason in fields:
        if getattr(challenge, name) != getattr(expected, name):
            raise PossessionError(reason, f"another {name.replace('_', ' ')} than the challenge was asked for")


def statement(challenge: Challenge, certificate: DeviceCertificate | None) -> tuple[bytes, ...]:
    """What the device signs, each field framed. The certificate is among them: whose device it is, it says itself."""
    return (
        challenge.nonce,
        challenge.issued_at.to_bytes(8, "big"),
        challenge.device,
        challenge.issuer,
        challenge.purpose.encode(),
        challenge.channel,
        challenge.binding,
        challenge.key_package,
        b"" if certificate is None else certificate.to_bytes(),
    )
