"""How a user and a device say that they belong together, and how the user ends it.

A user is an Ed25519 key that signs little else and can stay offline. A device is a key that was made on it: it asks
(``DeviceRequest``, signed with the new key), and the user answers with a ``DeviceCertificate``. To let the user's key
make the device's was rejected: then two places have had it.

The certificate keeps the device's signature too. With the user's alone, anybody could certify somebody else's device
as their own, and what that device signs would be theirs (OpenPGP found this out, and has its subkeys sign back:
RFC 9580 §5.2.1.9). So both have signed that they belong together, for which purposes, and which key this one takes
over from.

Time is the user's word here, in nanoseconds. Bounds are half-open: ``not_before`` is in, ``not_after`` is not.
Whose word counts for when something was signed is the verifier's matter: see ``roster``.
"""

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Final, Self

from msgspec import Meta

from protocols.errors import LocalError
from protocols.identity.errors import IdentityError
from protocols.identity.signing import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Domain, Signature, SigningKey, sign, verify
from protocols.messages import Codec, Key32, Message, Uint64


class Purpose(StrEnum):
    """What a device may do in its user's name."""

    CRDT = "crdt"
    """Sign operations on documents."""
    DHT = "dht"
    """Be a node of the DHT, and own records there."""
    MLS = "mls"
    """Certify signature keys for leaves of groups."""
    SESSION = "session"
    """Certify the static key of its sessions."""


ALL_PURPOSES: Final = tuple(sorted(Purpose))

OldKey = Annotated[bytes, Meta(max_length=PUBLIC_KEY_SIZE)]
Purposes = Annotated[tuple[Purpose, ...], Meta(min_length=1, max_length=len(Purpose))]

_UNSIGNED: Final = bytes(SIGNATURE_SIZE)


class DeviceRequest(Message, frozen=True, gc=False, tag="id.device-request"):
    """A new key asks a user to be certified: whoever made this has its private half."""

    user: Key32
    device: Key32
    replaces: OldKey
    """The key of the device that this one takes over from, or nothing."""
    purposes: Purposes
    """Each once, in order."""
    signature: Signature

    @classmethod
    def sign(cls, key: SigningKey, user: bytes, purposes: tuple[Purpose, ...], replaces: bytes = b"") -> Self:
        unsigned = cls(user, key.public, replaces, tuple(sorted(purposes)), _UNSIGNED)
        if why := _senseless(unsigned):
            raise LocalError(why)
        signature = sign(key, Domain.DEVICE_REQUEST, *unsigned.fields())
        return cls(user, key.public, replaces, unsigned.purposes, signature)

    def fields(self) -> tuple[bytes, ...]:
        return (self.user, self.device, self.replaces, *(each.encode() for each in self.purposes))

    def verify(self) -> None:
        """Raises:
        IdentityError: ``bad_request``: not signed by the key that it wants certified; or ``senseless``.
        """
        if why := _senseless(self):
            raise IdentityError("senseless", why)
        if not verify(self.device, Domain.DEVICE_REQUEST, *self.fields(), signature=self.signature):
            raise IdentityError("bad_request", f"not signed by {self.device.hex()[:16]}")


class DeviceCertificate(Message, frozen=True, gc=False, tag="id.device"):
    """A user and a device agree that the one is the other's."""

    user: Key32
    device: Key32
    version: Uint64
    """Of two certificates of one key the higher version counts from its ``not_before`` on: so purposes and validity
    are changed."""
    replaces: OldKey
    """The key that this one takes over from, which ends when this begins; or nothing."""
    purposes: Purposes
    not_before: Uint64
    not_after: Uint64
    consent: Signature
    """The device's, from its request."""
    signature: Signature
    """The user's, over everything before it."""

    @classmethod
    def issue(cls, key: SigningKey, request: DeviceRequest, version: int, not_before: int, not_after: int) -> Self:
        """What the user of ``key`` answers to a request.

        Raises:
            IdentityError: ``bad_request``, or ``wrong_user``: it is to somebody else.
        """
        if request.user != key.public:
            raise IdentityError("wrong_user", f"a request to {request.user.hex()[:16]}")
        request.verify()
        if not (0 <= version < 2**63 and 0 <= not_before < not_after < 2**63):
            raise LocalError(f"no certificate has version {version} and is valid from {not_before} to {not_after}")
        said = (key.public, request.device, version, request.replaces, request.purposes, not_before, not_after)
        unsigned = cls(*said, request.signature, _UNSIGNED)
        return cls(*said, request.signature, sign(key, Domain.DEVICE, *unsigned.fields()))

    def fields(self) -> tuple[bytes, ...]:
        return (
            self.user,
            self.device,
            self.version.to_bytes(8),
            self.replaces,
            self.not_before.to_bytes(8),
            self.not_after.to_bytes(8),
            self.consent,
            *(each.encode() for each in self.purposes),
        )

    def verify(self) -> None:
        """Whether both signed it. When and for what it is valid is another question.

        Raises:
            IdentityError: ``bad_certificate``: the user did not sign this; ``bad_request``: the device did not;
                ``senseless``: whoever signed it, it cannot be meant.
        """
        request = DeviceRequest(self.user, self.device, self.replaces, self.purposes, self.consent)
        if why := _senseless(request):
            raise IdentityError("senseless", why)
        if self.not_before >= self.not_after:
            raise IdentityError("senseless", f"from {self.not_before} to {self.not_after} is never")
        if not verify(self.user, Domain.DEVICE, *self.fields(), signature=self.signature):
            raise IdentityError("bad_certificate", f"not signed by user {self.user.hex()[:16]}")
        request.verify()

    def require_valid(self, at: int) -> None:
        """Raises:
        IdentityError: ``not_yet_valid`` or ``expired``.
        """
        if at < self.not_before:
            raise IdentityError("not_yet_valid", f"valid from {self.not_before}; it is {at}")
        if at >= self.not_after:
            raise IdentityError("expired", f"valid until {self.not_after}; it is {at}")

    def require_purpose(self, purpose: Purpose) -> None:
        """Raises:
        IdentityError: ``wrong_purpose``.
        """
        if purpose not in self.purposes:
            raise IdentityError("wrong_purpose", f"for {', '.join(self.purposes)}; not for {purpose}")

    def to_bytes(self) -> bytes:
        return STATEMENTS.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "DeviceCertificate":
        """Raises:
        CodecError: these bytes are no certificate. Nothing is verified.
        """
        return _CERTIFICATE.decode(data)


class Revocation(Message, frozen=True, gc=False, tag="id.revocation"):
    """A user: what this device signs from ``revoked_at`` on is not in my name. It is final."""

    user: Key32
    device: Key32
    revoked_at: Uint64
    """It may lie before the signature: the device was stolen last week."""
    signature: Signature

    @classmethod
    def sign(cls, key: SigningKey, device: bytes, revoked_at: int) -> Self:
        if len(device) != PUBLIC_KEY_SIZE or not 0 <= revoked_at < 2**63:
            raise LocalError(f"no revocation of a key of {len(device)} bytes at {revoked_at}")
        unsigned = cls(key.public, device, revoked_at, _UNSIGNED)
        return cls(key.public, device, revoked_at, sign(key, Domain.REVOCATION, *unsigned.fields()))

    def fields(self) -> tuple[bytes, ...]:
        return self.user, self.device, self.revoked_at.to_bytes(8)

    def verify(self) -> None:
        """Raises:
        IdentityError: ``bad_revocation``: the user did not sign this.
        """
        if not verify(self.user, Domain.REVOCATION, *self.fields(), signature=self.signature):
            raise IdentityError("bad_revocation", f"not signed by user {self.user.hex()[:16]}")


STATEMENT_SIZE_MAX: Final = 512
"""The largest, a certificate with every purpose, has 294."""

STATEMENTS: Final[Codec[DeviceRequest | DeviceCertificate | Revocation]] = Codec(
    DeviceRequest, DeviceCertificate, Revocation, size_max=STATEMENT_SIZE_MAX
)
_CERTIFICATE: Final = Codec(DeviceCertificate, size_max=STATEMENT_SIZE_MAX)


def _senseless(request: DeviceRequest) -> str:
    """Why a request cannot be meant, if so."""
    if len(request.replaces) not in (0, PUBLIC_KEY_SIZE):
        return f"an old key of {len(request.replaces)} bytes"
    if request.device in (request.user, request.replaces):
        return "a device's key is not its user's, nor the one it takes over from"
    if not request.purposes or any(first >= second for first, second in pairwise(request.purposes)):
        return "a device has purposes, each once and in order"
    return ""
