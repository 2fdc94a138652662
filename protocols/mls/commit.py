"""Commits (RFC 9420 §12.4): a list of proposals, by value or by reference, and fresh keys.

The encoding of a commit is asked for again and again: for its signature, the transcript, its id and its record. On a
blank tree it is as large as the group, so a commit remembers it, and one that was read has it from the start.
"""

from functools import cached_property
from typing import Final, TypeAlias

import msgspec

from protocols.mls.codec import Reader, opaque, optional, vector
from protocols.mls.errors import MlsError
from protocols.mls.proposals import Proposal, read_proposal
from protocols.mls.update_path import UpdatePath

PROPOSALS_MAX: Final = 2**17
"""Proposals of one commit: an Add of each of 100,000 members has 30 MB."""


class ProposalRef(msgspec.Struct, frozen=True, gc=False):
    """The hash of an ``AuthenticatedContent`` that carried a proposal (§5.2)."""

    reference: bytes


ProposalOrRef: TypeAlias = Proposal | ProposalRef


class Commit(msgspec.Struct, frozen=True, dict=True):
    proposals: tuple[ProposalOrRef, ...]
    path: UpdatePath | None

    @cached_property
    def encoded(self) -> bytes:
        path = None if self.path is None else self.path.encode()
        return vector(map(_encode_proposal_or_ref, self.proposals)) + optional(path)

    def encode(self) -> bytes:
        return self.encoded

    @classmethod
    def read(cls, reader: Reader) -> "Commit":
        start = reader.offset
        commit = cls(reader.vector(_read_proposal_or_ref, PROPOSALS_MAX), reader.optional(UpdatePath.read))
        # What was read is the one encoding of it (§2.1).
        commit.__dict__["encoded"] = reader.data[start : reader.offset]
        return commit


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
