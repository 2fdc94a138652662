"""Extensions (RFC 9420 §13): typed bytes in leaves, key packages, group contexts and group infos."""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, TypeAlias

import msgspec

from protocols.mls.codec import Reader, decode, opaque, uint16, uint16s, vector
from protocols.mls.credentials import Credential, read_credential
from protocols.mls.errors import MlsError


class ExtensionType(IntEnum):
    """§17.3, and ``last_resort_key_package`` of draft-ietf-mls-extensions."""

    APPLICATION_ID = 1
    RATCHET_TREE = 2
    REQUIRED_CAPABILITIES = 3
    EXTERNAL_PUB = 4
    EXTERNAL_SENDERS = 5
    LAST_RESORT_KEY_PACKAGE = 10


DEFAULT_EXTENSIONS: Final = frozenset(range(1, 6))
"""Every client has these, so capabilities do not list them (§7.2)."""

IN_LEAF_NODE: Final = frozenset({ExtensionType.APPLICATION_ID})
IN_KEY_PACKAGE: Final = frozenset({ExtensionType.LAST_RESORT_KEY_PACKAGE})
IN_GROUP_CONTEXT: Final = frozenset({ExtensionType.REQUIRED_CAPABILITIES, ExtensionType.EXTERNAL_SENDERS})
IN_GROUP_INFO: Final = frozenset({ExtensionType.RATCHET_TREE, ExtensionType.EXTERNAL_PUB})
"""Where each known type may stand (§17.3)."""

GREASE: Final = frozenset(0x0A0A + 0x1010 * each for each in range(15))
"""Values that nobody will ever use, listed so that nobody can count on knowing all (§13.5). Who lists one does not
support it, so what needs support cannot be of such a type."""


TYPES_MAX: Final = 2**16
"""A list with more extensions than there are types has some type twice."""

EXTERNAL_SENDERS_MAX: Final = 4096
"""A sender names its place among them; they are servers, and there are a few."""


class Extension(msgspec.Struct, frozen=True, gc=False):
    """A type and its data, whatever they are."""

    extension_type: int
    extension_data: bytes

    def encode(self) -> bytes:
        return uint16(self.extension_type) + opaque(self.extension_data)

    @classmethod
    def read(cls, reader: Reader) -> "Extension":
        return cls(reader.uint16(), reader.opaque())


Extensions: TypeAlias = tuple[Extension, ...]


def encode_extensions(extensions: Iterable[Extension]) -> bytes:
    return vector(each.encode() for each in extensions)


def read_extensions(reader: Reader) -> Extensions:
    """A list in which no type stands twice (§13.4)."""
    extensions = reader.vector(Extension.read, TYPES_MAX)
    if len(extensions) > 1 and len({each.extension_type for each in extensions}) != len(extensions):
        raise MlsError("13.4/duplicate-extension", f"types {[each.extension_type for each in extensions]}")
    return extensions


def find_extension(extensions: Extensions, extension_type: int) -> bytes | None:
    """The data of one type."""
    for each in extensions:
        if each.extension_type == extension_type:
            return each.extension_data
    return None


class RequiredCapabilities(msgspec.Struct, frozen=True, gc=False):
    """What every member must support (§11.1)."""

    extension_types: tuple[int, ...] = ()
    proposal_types: tuple[int, ...] = ()
    credential_types: tuple[int, ...] = ()

    def encode(self) -> bytes:
        return uint16s(self.extension_types) + uint16s(self.proposal_types) + uint16s(self.credential_types)

    @classmethod
    def read(cls, reader: Reader) -> "RequiredCapabilities":
        return cls(reader.uint16s(), reader.uint16s(), reader.uint16s())

    def extension(self) -> Extension:
        return Extension(ExtensionType.REQUIRED_CAPABILITIES, self.encode())


class ExternalSender(msgspec.Struct, frozen=True, gc=False):
    """Somebody outside who may propose (§12.1.8.1)."""

    signature_key: bytes
    credential: Credential

    def encode(self) -> bytes:
        return opaque(self.signature_key) + self.credential.encode()

    @classmethod
    def read(cls, reader: Reader) -> "ExternalSender":
        return cls(reader.opaque(), read_credential(reader))


def required_capabilities(extensions: Extensions) -> RequiredCapabilities | None:
    data = find_extension(extensions, ExtensionType.REQUIRED_CAPABILITIES)
    return None if data is None else decode(RequiredCapabilities.read, data)


def external_senders(extensions: Extensions) -> tuple[ExternalSender, ...]:
    data = find_extension(extensions, ExtensionType.EXTERNAL_SENDERS)
    return () if data is None else decode(lambda reader: reader.vector(ExternalSender.read, EXTERNAL_SENDERS_MAX), data)


def external_senders_extension(senders: Iterable[ExternalSender]) -> Extension:
    return Extension(ExtensionType.EXTERNAL_SENDERS, vector(each.encode() for each in senders))


def external_pub(extensions: Extensions) -> bytes | None:
    """The key to which an external committer encrypts (§12.4.3.2)."""
    data = find_extension(extensions, ExtensionType.EXTERNAL_PUB)
    return None if data is None else decode(Reader.opaque, data)


def external_pub_extension(key: bytes) -> Extension:
    return Extension(ExtensionType.EXTERNAL_PUB, opaque(key))
