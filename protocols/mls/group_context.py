"""The group context (RFC 9420 §8.1): what all members of an epoch agree on, hashed into its keys."""

import msgspec

from protocols.mls.codec import Reader, opaque, uint16, uint64
from protocols.mls.extensions import Extensions, encode_extensions, read_extensions


class GroupContext(msgspec.Struct, frozen=True, gc=False):
    version: int
    cipher_suite: int
    group_id: bytes
    epoch: int
    tree_hash: bytes
    confirmed_transcript_hash: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        return b"".join(
            (
                uint16(self.version),
                uint16(self.cipher_suite),
                opaque(self.group_id),
                uint64(self.epoch),
                opaque(self.tree_hash),
                opaque(self.confirmed_transcript_hash),
                encode_extensions(self.extensions),
            )
        )

    @classmethod
    def read(cls, reader: Reader) -> "GroupContext":
        return cls(
            reader.uint16(),
            reader.uint16(),
            reader.opaque(),
            reader.uint64(),
            reader.opaque(),
            reader.opaque(),
            read_extensions(reader),
        )
