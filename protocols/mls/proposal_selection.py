"""Which of the proposals that arrived a committer takes (RFC 9420 §12.2, §12.4).

A list with one bad proposal makes the whole commit bad, so whoever commits all that arrived can be stopped by
anybody who proposes nonsense. The committer drops what does not fit, and says why. It does so by the order of
arrival and the RFC's preferences alone: given the same proposals, it always keeps the same.

Each check of the list names all who are at fault, and the next is of what is left: a flood of proposals that clash
goes at once. Only Updates hold each other up, as a member whose Update is dropped has its old keys back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from protocols.mls.chunks import Run
from protocols.mls.credentials import Authenticate
from protocols.mls.errors import MlsError
from protocols.mls.framing import Sender, member
from protocols.mls.group_context import GroupContext
from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposal_list import check_proposals, signature_faults
from protocols.mls.proposal_rules import (
    ProposalChecker,
    ProposalError,
    SentProposal,
    check_committed,
    check_parties,
    check_prudent,
    leaf_concerned,
)
from protocols.mls.proposals import (
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
        MlsError: the committer's own proposals break a rule, whatever else is committed.
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
            if not sieve.drop_faulty((error, *error.others), len(own)):
                raise
        else:
            return Selection((*own, *sieve.kept), tuple(sieve.rejected))


def committable(
    sent: SentProposal,
    *,
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    own: LeafIndex,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> bool:
    """Whether a proposal is valid, as §12.4 means it: we would commit it alone, or another member if we may not."""
    committer = own if leaf_concerned(sent) != own else next((leaf for leaf, _ in tree.members() if leaf != own), None)
    if committer is None:
        return False
    try:
        if policy.accept is None:
            check_prudent(sent, member(own), context, tree)
        check_proposals(
            suite=suite,
            context=context,
            tree=tree,
            proposals=(sent,),
            committer=member(committer),
            authenticate=authenticate,
            policy=policy,
        )
    except MlsError:
        return False
    return True


_OWN: Final = -1
"""The position of everything that the committer does not drop."""


@dataclass
class _Sieve:
    kept: list[SentProposal]
    rejected: list[Rejected]

    def drop(self, errors: Mapping[int, MlsError]) -> None:
        """Those at these positions."""
        self.rejected += (Rejected(self.kept[position], error) for position, error in errors.items())
        self.kept = [sent for position, sent in enumerate(self.kept) if position not in errors]

    def drop_faulty(self, faults: Sequence[ProposalError], first: int) -> bool:
        """What broke a rule, in a list whose positions before ``first`` are the committer's own; False if those did.

        New extensions that somebody proposed bind all the others (§12.3). So they go first, and alone, if they are at
        fault or may be the reason why an own proposal is.
        """
        errors: dict[int, MlsError] = {}
        for fault in faults:
            errors.setdefault(_OWN if fault.position is None else max(_OWN, fault.position - first), fault)
        for position, sent in enumerate(self.kept):
            if isinstance(sent.proposal, GroupContextExtensions) and (_OWN in errors or position in errors):
                errors = {position: errors[position if position in errors else _OWN]}
        if _OWN in errors:
            return False
        self.drop(errors)
        return True

    def drop_unsound(self, checker: ProposalChecker, committer: Sender, run: Run) -> None:
        """Whatever is wrong in itself, or not for this committer to commit."""
        sound: list[SentProposal] = []
        for sent in self.kept:
            try:
                check_parties(sent, checker.context, checker.tree)
                check_committed(sent, committer)
                checker.check(sent, None)
                if checker.policy.accept is None:
                    check_prudent(sent, committer, checker.context, checker.tree)
            except MlsError as error:
                self.rejected.append(Rejected(sent, error))
            else:
                sound.append(sent)
        forged: dict[int, MlsError] = {}
        for fault in signature_faults(sound, checker, run):
            assert fault.position is not None
            forged.setdefault(fault.position, fault)
        self.kept = sound
        self.drop(forged)

    def drop_superseded(self, own: Sequence[SentProposal]) -> None:
        """Of those that cannot stand together, the one that §12.2 prefers; else the first."""
        if any(isinstance(sent.proposal, ReInit) for sent in own):
            self.drop({each: MlsError("12.2/reinit-with-others", "ours is alone") for each in range(len(self.kept))})
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
