"""Whose leaf is it? The credential by which a device stands in MLS groups.

A leaf has a signature key of its group's cipher suite (RFC 9420 §5.1.1), which may be of another scheme than a
device's and is as fresh as one likes. The device certifies it, and the whole chain from the user down is the
identity in the leaf's ``BasicCredential``: who joins knows nobody yet and has nothing else to check. The key itself
and the user's name are not repeated in it, as a verifier has the first from the leaf and the second from the chain.

The leaf's key signs back: a leaf node is signed over its credential (§7.2). So nobody gets anywhere with a
certificate for somebody else's key.

A leaf is valid as long as its device is. It has no end of its own: members would have to drop a leaf in the middle of
an epoch, each by their own clock.
"""

from collections.abc import Callable
from typing import Annotated, Final, Self, TypeAlias

from msgspec import Meta

from protocols.errors import LocalError
from protocols.identity.certificates import STATEMENT_SIZE_MAX, DeviceCertificate, Purpose
from protocols.identity.errors import IdentityError
from protocols.identity.roster import Roster
from protocols.identity.signing import Domain, Signature, SigningKey, sign, verify
from protocols.messages import Codec, Message

SIGNATURE_KEY_SIZE_MAX: Final = 133
"""The largest is an uncompressed point of P-521."""

SCHEME_MAX: Final = 2**16 - 1

CREDENTIAL_SIZE_MAX: Final = STATEMENT_SIZE_MAX + 128

RosterOf: TypeAlias = Callable[[bytes], Roster | None]
"""What is known of a user; nothing, of one whose leaves are not to be believed."""


class LeafCredential(Message, frozen=True, gc=False, tag="id.leaf"):
    """User, device and MLS signature key, each certified by the one before; the last is in the leaf."""

    certificate: DeviceCertificate
    scheme: Annotated[int, Meta(ge=0, le=SCHEME_MAX)]
    """Of the signature key, in the TLS SignatureScheme registry: the same bytes may be a key of several."""
    signature: Signature
    """The device's."""

    @classmethod
    def sign(cls, key: SigningKey, certificate: DeviceCertificate, scheme: int, signature_key: bytes) -> Self:
        """The credential of a leaf with ``signature_key``, by the device of ``key``."""
        if key.public != certificate.device:
            raise LocalError(f"the certificate is of {certificate.device.hex()[:16]}, not of {key.public.hex()[:16]}")
        if not (0 < len(signature_key) <= SIGNATURE_KEY_SIZE_MAX and 0 <= scheme <= SCHEME_MAX):
            raise LocalError(f"no leaf has a key of {len(signature_key)} bytes in scheme {scheme}")
        fields = _fields(certificate, scheme, signature_key)
        return cls(certificate, scheme, sign(key, Domain.MLS_LEAF, *fields))

    def verify(self, signature_key: bytes) -> None:
        """Whether the device certified this key. Whether the user certified the device is the roster's to say.

        Raises:
            IdentityError: ``bad_leaf``.
        """
        device = self.certificate.device
        fields = _fields(self.certificate, self.scheme, signature_key)
        if not verify(device, Domain.MLS_LEAF, *fields, signature=self.signature):
            raise IdentityError("bad_leaf", f"not certified by {device.hex()[:16]}")

    def to_bytes(self) -> bytes:
        """The ``identity`` of a ``BasicCredential`` (RFC 9420 §5.3)."""
        return _CREDENTIAL.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> "LeafCredential":
        """Raises:
        CodecError: these bytes are no credential. Nothing is verified.
        """
        return _CREDENTIAL.decode(data)


_CREDENTIAL: Final = Codec(LeafCredential, size_max=CREDENTIAL_SIZE_MAX)


def authenticate_leaf(
    identity: bytes, signature_key: bytes, scheme: int, roster_of: RosterOf, at: int
) -> DeviceCertificate:
    """Who has the leaf with this identity and signature key: MLS's authentication service (RFC 9420 §5.3.1).

    ``scheme`` is that of the group's cipher suite; ``at`` is when the verifier first had the leaf.

    Raises:
        CodecError: ``identity`` is no credential of ours.
        IdentityError: ``unknown_user``, ``wrong_scheme``, ``bad_leaf``, or what ``Roster.standing`` raises.
    """
    credential = LeafCredential.from_bytes(identity)
    certificate = credential.certificate
    roster = roster_of(certificate.user)
    if roster is None:
        raise IdentityError("unknown_user", certificate.user.hex()[:16])
    if credential.scheme != scheme:
        raise IdentityError("wrong_scheme", f"a key of scheme {credential.scheme:#06x} in a group of {scheme:#06x}")
    credential.verify(signature_key)
    return roster.standing(certificate.device, Purpose.MLS, at, shown=certificate)


def _fields(certificate: DeviceCertificate, scheme: int, signature_key: bytes) -> tuple[bytes, ...]:
    return certificate.user, certificate.device, scheme.to_bytes(2), signature_key
