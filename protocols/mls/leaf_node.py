"""Leaf nodes (RFC 9420 §7.2): a member's keys, credential and abilities, signed by the member.

Ten thousand leaves mostly have one and the same set of capabilities. They are interned by their encoding:
parsed once, one object for all, so that comparing them is comparing identities. What is remembered may come from
anybody, as a key package is parsed before it is believed: so lists that no honest client has are not.
"""

from enum import IntEnum
from functools import lru_cache
from typing import Final, NewType

import msgspec

from protocols.mls.codec import Reader, opaque, uint16s, uint32, uint64
from protocols.mls.credentials import Credential, read_credential
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions, encode_extensions, read_extensions

LeafIndex = NewType("LeafIndex", int)
NodeIndex = NewType("NodeIndex", int)
"""Leaf ``i`` is node ``2 i`` (appendix C); the two numberings are different types."""

INTERNED_MAX: Final = 1024
INTERNED_SIZE_MAX: Final = 1024
"""Sets of capabilities that are remembered, and the bytes of the lists of one: ours have 42. All together take 12 MB
at most, whoever filled them."""


class LeafNodeSource(IntEnum):
    KEY_PACKAGE = 1
    UPDATE = 2
    COMMIT = 3


class Capabilities(msgspec.Struct, frozen=True, gc=False):
    """What a client supports beyond the default types, which are never listed (§7.2)."""

    versions: tuple[int, ...] = (1,)
    cipher_suites: tuple[int, ...] = ()
    extensions: tuple[int, ...] = ()
    proposals: tuple[int, ...] = ()
    credentials: tuple[int, ...] = (1,)

    @property
    def count(self) -> int:
        """Of all that is listed."""
        return (
            len(self.versions)
            + len(self.cipher_suites)
            + len(self.extensions)
            + len(self.proposals)
            + len(self.credentials)
        )

    def encode(self) -> bytes:
        return (_encoded if 2 * self.count <= INTERNED_SIZE_MAX else _encoded.__wrapped__)(self)

    @classmethod
    def read(cls, reader: Reader) -> "Capabilities":
        opaque = reader.opaque
        lists = opaque(), opaque(), opaque(), opaque(), opaque()
        return (_interned if sum(map(len, lists)) <= INTERNED_SIZE_MAX else _interned.__wrapped__)(*lists)


@lru_cache(maxsize=INTERNED_MAX)
def _encoded(each: Capabilities) -> bytes:
    return b"".join(
        map(uint16s, (each.versions, each.cipher_suites, each.extensions, each.proposals, each.credentials))
    )


@lru_cache(maxsize=INTERNED_MAX)
def _interned(*lists: bytes) -> Capabilities:
    return Capabilities(*(Reader(opaque(each)).uint16s() for each in lists))


class Lifetime(msgspec.Struct, frozen=True, gc=False):
    """Seconds since 1970 between which a key package may be used, both ends included."""

    not_before: int
    not_after: int

    def encode(self) -> bytes:
        return uint64(self.not_before) + uint64(self.not_after)

    @classmethod
    def read(cls, reader: Reader) -> "Lifetime":
        return cls(reader.uint64(), reader.uint64())


class LeafNode(msgspec.Struct, frozen=True, gc=False):
    """§7.2. ``lifetime`` is there if and only if the source is a key package, ``parent_hash`` if it is a commit."""

    encryption_key: bytes
    signature_key: bytes
    credential: Credential
    capabilities: Capabilities
    source: int
    lifetime: Lifetime | None
    parent_hash: bytes | None
    extensions: Extensions
    signature: bytes

    def unsigned(self) -> bytes:
        """All fields but the signature."""
        if self.source == LeafNodeSource.KEY_PACKAGE and self.lifetime is not None:
            special = self.lifetime.encode()
        elif self.source == LeafNodeSource.COMMIT and self.parent_hash is not None:
            special = opaque(self.parent_hash)
        else:
            special = b""
        return b"".join(
            (
                opaque(self.encryption_key),
                opaque(self.signature_key),
                self.credential.encode(),
                self.capabilities.encode(),
                bytes((self.source,)),
                special,
                encode_extensions(self.extensions),
            )
        )

    def encode(self) -> bytes:
        return self.unsigned() + opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "LeafNode":
        encryption_key, signature_key = reader.opaque(), reader.opaque()
        credential = read_credential(reader)
        capabilities = Capabilities.read(reader)
        lifetime, parent_hash = None, None
        match source := reader.uint8():
            case 1:
                lifetime = Lifetime.read(reader)
            case 2:
                pass
            case 3:
                parent_hash = reader.opaque()
            case _:
                raise MlsError("7.2/unknown-leaf-node-source", f"source {source}")
        return cls(
            encryption_key,
            signature_key,
            credential,
            capabilities,
            source,
            lifetime,
            parent_hash,
            read_extensions(reader),
            reader.opaque(),
        )

    def to_be_signed(self, group_id: bytes, leaf_index: int) -> bytes:
        """``LeafNodeTBS``: outside of a key package the signature is bound to a place in a group (§7.2)."""
        if self.source == LeafNodeSource.KEY_PACKAGE:
            return self.unsigned()
        return self.unsigned() + opaque(group_id) + uint32(leaf_index)


LEAF_NODE_LABEL: Final = b"LeafNodeTBS"
