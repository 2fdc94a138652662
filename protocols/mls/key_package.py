"""Key packages (RFC 9420 §10): what a client publishes so that it can be added while it is away."""

from typing import Final

import msgspec

from protocols.mls.codec import Reader, opaque, uint16
from protocols.mls.extensions import Extensions, encode_extensions, read_extensions
from protocols.mls.leaf_node import LeafNode

KEY_PACKAGE_LABEL: Final = b"KeyPackageTBS"

MLS_1_0: Final = 1
"""``ProtocolVersion mls10``."""


class KeyPackage(msgspec.Struct, frozen=True, gc=False):
    version: int
    cipher_suite: int
    init_key: bytes
    leaf_node: LeafNode
    extensions: Extensions
    signature: bytes

    def to_be_signed(self) -> bytes:
        """``KeyPackageTBS``."""
        return b"".join(
            (
                uint16(self.version),
                uint16(self.cipher_suite),
                opaque(self.init_key),
                self.leaf_node.encode(),
                encode_extensions(self.extensions),
            )
        )

    def encode(self) -> bytes:
        return self.to_be_signed() + opaque(self.signature)

    @classmethod
    def read(cls, reader: Reader) -> "KeyPackage":
        return cls(
            reader.uint16(),
            reader.uint16(),
            reader.opaque(),
            LeafNode.read(reader),
            read_extensions(reader),
            reader.opaque(),
        )
