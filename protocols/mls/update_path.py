"""Update paths (RFC 9420 §7.6): new keys from a leaf to the root, each encrypted to those who may know it."""

from typing import Final

import msgspec

from protocols.mls.codec import Reader, opaque, vector
from protocols.mls.leaf_node import LeafNode

PATH_SIZE_MAX: Final = 32
"""Ancestors of a leaf: its index has 32 bits."""


class HpkeCiphertext(msgspec.Struct, frozen=True, gc=False):
    kem_output: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        return opaque(self.kem_output) + opaque(self.ciphertext)

    @classmethod
    def read(cls, reader: Reader) -> "HpkeCiphertext":
        return cls(reader.opaque(), reader.opaque())


class UpdatePathNode(msgspec.Struct, frozen=True, gc=False):
    """A parent's new key, and its path secret for every node of the copath child's resolution, in order."""

    encryption_key: bytes
    encrypted_path_secret: tuple[HpkeCiphertext, ...]

    def encode(self) -> bytes:
        return opaque(self.encryption_key) + vector(each.encode() for each in self.encrypted_path_secret)

    @classmethod
    def read(cls, reader: Reader) -> "UpdatePathNode":
        return cls(reader.opaque(), reader.vector(HpkeCiphertext.read))


class UpdatePath(msgspec.Struct, frozen=True, gc=False):
    leaf_node: LeafNode
    nodes: tuple[UpdatePathNode, ...]

    def encode(self) -> bytes:
        return self.leaf_node.encode() + vector(each.encode() for each in self.nodes)

    @classmethod
    def read(cls, reader: Reader) -> "UpdatePath":
        return cls(LeafNode.read(reader), reader.vector(UpdatePathNode.read, PATH_SIZE_MAX))
