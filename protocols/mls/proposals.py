"""Proposals (RFC 9420 §12.1): what may change from one epoch to the next."""

from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

import msgspec

from protocols.mls.codec import Reader, opaque, uint16, uint32
from protocols.mls.extensions import Extensions, encode_extensions, read_extensions
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import LeafNode
from protocols.mls.psk import PreSharedKeyId, read_psk_id


class ProposalType(IntEnum):
    """§17.4, and ``self_remove`` of draft-ietf-mls-extensions."""

    ADD = 1
    UPDATE = 2
    REMOVE = 3
    PSK = 4
    REINIT = 5
    EXTERNAL_INIT = 6
    GROUP_CONTEXT_EXTENSIONS = 7
    SELF_REMOVE = 10


DEFAULT_PROPOSALS: Final = frozenset(range(1, 8))
"""Every client has these, so capabilities do not list them (§7.2)."""


class Add(msgspec.Struct, frozen=True, gc=False):
    """§12.1.1."""

    key_package: KeyPackage
    proposal_type: ClassVar[int] = ProposalType.ADD

    def encode(self) -> bytes:
        return b"\0\1" + self.key_package.encode()


class Update(msgspec.Struct, frozen=True, gc=False):
    """§12.1.2."""

    leaf_node: LeafNode
    proposal_type: ClassVar[int] = ProposalType.UPDATE

    def encode(self) -> bytes:
        return b"\0\2" + self.leaf_node.encode()


class Remove(msgspec.Struct, frozen=True, gc=False):
    """§12.1.3."""

    removed: int
    proposal_type: ClassVar[int] = ProposalType.REMOVE

    def encode(self) -> bytes:
        return b"\0\3" + uint32(self.removed)


class PreSharedKey(msgspec.Struct, frozen=True, gc=False):
    """§12.1.4."""

    psk: PreSharedKeyId
    proposal_type: ClassVar[int] = ProposalType.PSK

    def encode(self) -> bytes:
        return b"\0\4" + self.psk.encode()


class ReInit(msgspec.Struct, frozen=True, gc=False):
    """§12.1.5."""

    group_id: bytes
    version: int
    cipher_suite: int
    extensions: Extensions
    proposal_type: ClassVar[int] = ProposalType.REINIT

    def encode(self) -> bytes:
        return b"".join(
            (
                b"\0\5",
                opaque(self.group_id),
                uint16(self.version),
                uint16(self.cipher_suite),
                encode_extensions(self.extensions),
            )
        )


class ExternalInit(msgspec.Struct, frozen=True, gc=False):
    """§12.1.6."""

    kem_output: bytes
    proposal_type: ClassVar[int] = ProposalType.EXTERNAL_INIT

    def encode(self) -> bytes:
        return b"\0\6" + opaque(self.kem_output)


class GroupContextExtensions(msgspec.Struct, frozen=True, gc=False):
    """§12.1.7: the whole new list, not a change of it."""

    extensions: Extensions
    proposal_type: ClassVar[int] = ProposalType.GROUP_CONTEXT_EXTENSIONS

    def encode(self) -> bytes:
        return b"\0\7" + encode_extensions(self.extensions)


class SelfRemove(msgspec.Struct, frozen=True, gc=False):
    """draft-ietf-mls-extensions: the sender leaves, also by means of somebody's external commit."""

    proposal_type: ClassVar[int] = ProposalType.SELF_REMOVE

    def encode(self) -> bytes:
        return b"\0\x0a"


class Custom(msgspec.Struct, frozen=True, gc=False):
    """A type that neither defines. Its body has to be one ``opaque<V>``, or nobody could skip it."""

    proposal_type: int
    body: bytes

    def encode(self) -> bytes:
        return uint16(self.proposal_type) + opaque(self.body)


Proposal: TypeAlias = (
    Add | Update | Remove | PreSharedKey | ReInit | ExternalInit | GroupContextExtensions | SelfRemove | Custom
)


def read_proposal(reader: Reader) -> Proposal:
    match proposal_type := reader.uint16():
        case ProposalType.ADD:
            return Add(KeyPackage.read(reader))
        case ProposalType.UPDATE:
            return Update(LeafNode.read(reader))
        case ProposalType.REMOVE:
            return Remove(reader.uint32())
        case ProposalType.PSK:
            return PreSharedKey(read_psk_id(reader))
        case ProposalType.REINIT:
            return ReInit(reader.opaque(), reader.uint16(), reader.uint16(), read_extensions(reader))
        case ProposalType.EXTERNAL_INIT:
            return ExternalInit(reader.opaque())
        case ProposalType.GROUP_CONTEXT_EXTENSIONS:
            return GroupContextExtensions(read_extensions(reader))
        case ProposalType.SELF_REMOVE:
            return SelfRemove()
        case _:
            return Custom(proposal_type, reader.opaque())
