"""Commits (RFC 9420 §12.4): a list of proposals, by value or by reference, and fresh keys."""

from typing import TypeAlias

import msgspec

from protocols.mls.codec import Reader, opaque, optional, vector
from protocols.mls.errors import MlsError
from protocols.mls.proposals import Proposal, read_proposal
from protocols.mls.update_path import UpdatePath


class ProposalRef(msgspec.Struct, frozen=True, gc=False):
    """The hash of an ``AuthenticatedContent`` that carried a proposal (§5.2)."""

    reference: bytes


ProposalOrRef: TypeAlias = Proposal | ProposalRef


class Commit(msgspec.Struct, frozen=True, gc=False):
    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    def encode(self) -> bytes:
        path = None if self.path is None else self.path.encode()
        return vector(map(_encode_proposal_or_ref, self.proposals)) + optional(path)

    @classmethod
    def read(cls, reader: Reader) -> "Commit":
        return cls(reader.vector(_read_proposal_or_ref), reader.optional(UpdatePath.read))


def _encode_proposal_or_ref(item: ProposalOrRef) -> bytes:
    return b"\2" + opaque(item.reference) if isinstance(item, ProposalRef) else b"\1" + item.encode()


def _read_proposal_or_ref(reader: Reader) -> ProposalOrRef:
    match kind := reader.uint8():
        case 1:
            return read_proposal(reader)
        case 2:
            return ProposalRef(reader.opaque())
        case _:
            raise MlsError("12.4/unknown-proposal-or-ref", f"type {kind}")
