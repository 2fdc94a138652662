"""Credentials (RFC 9420 §5.3): what a leaf says about who holds its signature key.

Whether that is true is asked of an authentication service: here a function of the caller's (``Authenticate``),
as trust is policy. MLS itself only carries them.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from protocols.mls.codec import Reader, opaque, uint16, vector

CERTIFICATES_MAX: Final = 64
"""Certificates of one chain. Those in use have three; how many are believed, the authentication service says."""


class CredentialType(IntEnum):
    """§17.5."""

    BASIC = 1
    X509 = 2


class BasicCredential(msgspec.Struct, frozen=True, gc=False):
    """A bare assertion of an identity."""

    identity: bytes

    @property
    def credential_type(self) -> int:
        return CredentialType.BASIC

    def encode(self) -> bytes:
        return b"\0\1" + opaque(self.identity)


class X509Credential(msgspec.Struct, frozen=True, gc=False):
    """A certificate chain in DER: the leaf's own first, each certified by the next."""

    certificates: tuple[bytes, ...]

    @property
    def credential_type(self) -> int:
        return CredentialType.X509

    def encode(self) -> bytes:
        return b"\0\2" + vector(map(opaque, self.certificates))


class CustomCredential(msgspec.Struct, frozen=True, gc=False):
    """A type that RFC 9420 does not define. Its body has to be one ``opaque<V>``, or nobody could skip it."""

    type: int
    body: bytes

    @property
    def credential_type(self) -> int:
        return self.type

    def encode(self) -> bytes:
        return uint16(self.type) + opaque(self.body)


Credential: TypeAlias = BasicCredential | X509Credential | CustomCredential

Authenticate: TypeAlias = Callable[[Credential, bytes], bool]
"""Whether this credential may speak with this signature key (§5.3.1): the caller's authentication service."""


def read_credential(reader: Reader) -> Credential:
    credential_type = reader.uint16()
    if credential_type == CredentialType.BASIC:
        return BasicCredential(reader.opaque())
    if credential_type == CredentialType.X509:
        return X509Credential(reader.vector(Reader.opaque, CERTIFICATES_MAX))
    return CustomCredential(credential_type, reader.opaque())
