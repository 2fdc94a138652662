"""Which of the proposals that arrived a committer takes (RFC 9420 §12.2, §12.4).

A list with one bad proposal makes the whole commit bad, so whoever commits all that arrived can be stopped by
anybody who proposes nonsense. The committer drops what does not fit, and says why. It does so by the order of
arrival and the RFC's preferences alone: given the same proposals, it always keeps the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from protocols.mls.chunks import Run
from protocols.mls.credentials import Authenticate
from protocols.mls.errors import MlsError
from protocols.mls.framing import Sender
from protocols.mls.group_context import GroupContext
from protocols.mls.leaf_node import LeafNode
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposal_list import check_proposals
from protocols.mls.proposal_rules import (
    ProposalChecker,
    ProposalError,
    SentProposal,
    check_committed,
    check_parties,
    leaf_concerned,
)
from protocols.mls.proposals import (
    Add,
    GroupContextExtensions,
    PreSharedKey,
    Proposal,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite
from protocols.mls.validation import forgeries


class Rejected(msgspec.Struct, frozen=True):
    """A proposal that is not committed, and the rule that it or the list with it would break."""

    sent: SentProposal
    error: MlsError


class Selection(msgspec.Struct, frozen=True):
    """``kept`` is a valid list: the committer's own, then the others in the order of their arrival."""

    kept: tuple[SentProposal, ...]
    rejected: tuple[Rejected, ...]


def select_proposals(
    *,
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    own: Sequence[SentProposal] = (),
    pending: Sequence[SentProposal],
    committer: Sender,
    path_leaf: LeafNode | None = None,
    now_s: int | None = None,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
    run: Run = map,
) -> Selection:
    """The committer's own proposals, and of those that arrived whatever can stand beside them.

    Args:
        own: by value, all of them to be committed.
        pending: by reference, in the order of their arrival.

    Raises:
        MlsError: the committer's own proposals break a rule without any other.
    """
    checker = ProposalChecker(suite, context, tree, (), now_s, authenticate, policy, None)
    sieve = _Sieve(list(pending), [])
    sieve.drop_unsound(checker, committer, run)
    sieve.drop_superseded(own)
    while True:
        try:
            check_proposals(
                suite=suite,
                context=context,
                tree=tree,
                proposals=(*own, *sieve.kept),
                committer=committer,
                path_leaf=path_leaf,
                now_s=now_s,
                authenticate=authenticate,
                policy=policy,
                signatures=False,
            )
        except ProposalError as error:
            if error.position is None or error.position < len(own):
                raise
            sieve.drop(error.position - len(own), error)
        else:
            return Selection((*own, *sieve.kept), tuple(sieve.rejected))


@dataclass
class _Sieve:
    kept: list[SentProposal]
    rejected: list[Rejected]

    def drop(self, position: int, error: MlsError) -> None:
        self.rejected.append(Rejected(self.kept.pop(position), error))

    def drop_unsound(self, checker: ProposalChecker, committer: Sender, run: Run) -> None:
        """Whatever is wrong in itself, or not for this committer to commit."""
        sound: list[SentProposal] = []
        for sent in self.kept:
            try:
                check_parties(sent, checker.context, checker.tree)
                check_committed(sent, committer)
                checker.check(sent, None)
            except MlsError as error:
                self.rejected.append(Rejected(sent, error))
            else:
                sound.append(sent)
        owners = [(position, claim) for position, sent in enumerate(sound) for claim in checker.claims(sent)]
        forged: dict[int, MlsError] = {}
        for found in forgeries(checker.suite, [claim for _, claim in owners], run):
            position, claim = owners[found]
            forged.setdefault(position, MlsError(claim.rule))
        self.rejected += (Rejected(sound[position], error) for position, error in forged.items())
        self.kept = [sent for position, sent in enumerate(sound) if position not in forged]

    def drop_superseded(self, own: Sequence[SentProposal]) -> None:
        """Of those that cannot stand together, the one that §12.2 prefers; else the first."""
        winners: dict[object, SentProposal] = {}
        for sent in (*own, *self.kept):
            key = _rivalry(sent)
            if key is not None and (key not in winners or _supersedes(sent, winners[key])):
                winners[key] = sent
        others = any(not isinstance(sent.proposal, ReInit) for sent in (*own, *self.kept))
        still: list[SentProposal] = []
        for sent in self.kept:
            key = _rivalry(sent)
            if isinstance(sent.proposal, ReInit) and others:
                self.rejected.append(Rejected(sent, MlsError("12.2/reinit-with-others", "others are preferred")))
            elif key is not None and winners[key] is not sent:
                self.rejected.append(Rejected(sent, MlsError(_RULES[type(sent.proposal)], "another is preferred")))
            else:
                still.append(sent)
        self.kept = still


_RULES: Final[dict[type[Proposal], str]] = {
    Add: "12.2/duplicate-add",
    Update: "12.2/same-leaf",
    Remove: "12.2/same-leaf",
    SelfRemove: "12.2/same-leaf",
    PreSharedKey: "12.2/duplicate-psk",
    GroupContextExtensions: "12.2/duplicate-context-extensions",
    ReInit: "12.2/reinit-with-others",
}


def _rivalry(sent: SentProposal) -> object:
    """What a list can have one proposal about."""
    if (leaf := leaf_concerned(sent)) is not None:
        return "leaf", leaf
    if isinstance(sent.proposal, Add):
        return "client", sent.proposal.key_package.leaf_node.signature_key
    if isinstance(sent.proposal, PreSharedKey):
        return "psk", sent.proposal.psk
    return type(sent.proposal) if isinstance(sent.proposal, GroupContextExtensions | ReInit) else None


def _supersedes(later: SentProposal, earlier: SentProposal) -> bool:
    """A SelfRemove over a Remove (draft-ietf-mls-extensions), any over an Update, a later Update over an earlier."""
    if earlier.reference is None:
        return False
    rank = (Update, Remove, SelfRemove)
    if not isinstance(later.proposal, rank) or not isinstance(earlier.proposal, rank):
        return False
    new, old = rank.index(type(later.proposal)), rank.index(type(earlier.proposal))
    return new > old or new == old == 0
