"""A commit's proposals as one list (RFC 9420 §12.2), and what they make of the tree (§12.3).

The rules fall in three kinds, and are asked in the order of what they cost: who sent what and how often (nothing
but the list is looked at), each proposal for itself, and all of them beside the members who stay. Signatures
come last and all at once. Nothing depends on the order of the checks: what must be unique is unique among the
members *after* the commit, so a key may pass from one member to the next in a single list.

Members who stay as they are were checked when they came, so only their summary is asked.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.chunks import Run
from protocols.mls.credentials import Authenticate
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extensions
from protocols.mls.framing import Sender, SenderType
from protocols.mls.fresh_leaves import (
    FreshLeaf,
    client_faults,
    credential_faults,
    key_faults,
    staying_members,
)
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import KeyPackage
from protocols.mls.leaf_node import LeafIndex, LeafNode
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposal_rules import (
    ProposalChecker,
    ProposalError,
    SentProposal,
    at,
    check_committed,
    check_credential_successor,
    check_parties,
    check_successor,
    leaf_concerned,
)
from protocols.mls.proposals import (
    Add,
    ExternalInit,
    GroupContextExtensions,
    PreSharedKey,
    ProposalType,
    ReInit,
    Remove,
    SelfRemove,
    Update,
)
from protocols.mls.psk import PreSharedKeyId, ResumptionUsage
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite
from protocols.mls.support import Support
from protocols.mls.validation import (
    check_abilities,
    demands,
    forgeries,
)

__all__ = ["Applied", "ProposalError", "ProposalList", "SentProposal", "apply_proposals", "check_proposals"]

_T = ProposalType
PATH_REQUIRED: Final = frozenset({_T.UPDATE, _T.REMOVE, _T.EXTERNAL_INIT, _T.GROUP_CONTEXT_EXTENSIONS, _T.SELF_REMOVE})
"""§17.4."""


class ProposalList(msgspec.Struct, frozen=True):
    """A valid list, by kind, each in the order in which the commit has them."""

    adds: tuple[KeyPackage, ...]
    updates: tuple[tuple[LeafIndex, LeafNode], ...]
    removes: tuple[LeafIndex, ...]
    self_removes: tuple[LeafIndex, ...]
    psks: tuple[PreSharedKeyId, ...]
    reinit: ReInit | None
    external_init: ExternalInit | None
    group_context_extensions: Extensions | None
    custom: tuple[SentProposal, ...]
    path_required: bool
    """Whether the commit must have a path (§12.4)."""
    extensions: Extensions
    """The group context's, after the commit."""

    @property
    def gone(self) -> tuple[LeafIndex, ...]:
        """Whoever is removed, by their own wish (draft-ietf-mls-extensions) or not."""
        return self.self_removes + self.removes


class Applied(msgspec.Struct, frozen=True):
    """What a list makes of a tree."""

    tree: RatchetTree
    extensions: Extensions
    added: tuple[tuple[LeafIndex, KeyPackage], ...]
    removed: tuple[LeafIndex, ...]
    updated: tuple[LeafIndex, ...]


def apply_proposals(tree: RatchetTree, proposals: ProposalList) -> Applied:
    """§12.3: Updates, then (Self)Removes, then Adds, whatever the list's order; each Add at the leftmost blank."""
    after, places = tree.changed(dict(proposals.updates), proposals.gone, [each.leaf_node for each in proposals.adds])
    added = tuple(zip(places, proposals.adds, strict=True))
    return Applied(after, proposals.extensions, added, proposals.gone, tuple(index for index, _ in proposals.updates))


def check_proposals(
    *,
    suite: CipherSuite,
    context: GroupContext,
    tree: RatchetTree,
    proposals: Sequence[SentProposal],
    committer: Sender,
    path_leaf: LeafNode | None = None,
    now_s: int | None = None,
    authenticate: Authenticate | None = None,
    policy: Policy = DEFAULT_POLICY,
    follow_up: ResumptionUsage | None = None,
    signatures: bool = True,
    run: Run = map,
) -> ProposalList:
    """Check a commit's list whole.

    Args:
        context: of the epoch in which the commit was made, as ``tree`` is.
        path_leaf: the committer's new leaf, if the commit has a path. Here it is held against the others: its
            keys, its credential, its capabilities. Its signature, source and lifetime are ``check_leaf_node``'s.
            A committer that has not made it yet passes a leaf with what is known of it.
        follow_up: the usage of a resumption PSK that is allowed because the group follows another (§11.2, §11.3).
        signatures: False if each proposal went through ``check_proposal`` when it arrived.
        run: may check signatures in chunks on threads.

    Raises:
        ProposalError: a rule of §12, or of what a proposal contains, and the proposal that breaks it; with all
            ``others`` that the same check found.
        LocalError: a commit by a sender that makes none, or an external one without ``path_leaf``.
    """
    external = committer.sender_type == SenderType.NEW_MEMBER_COMMIT
    if not external and committer.sender_type != SenderType.MEMBER:
        raise LocalError(f"a commit by a sender of type {committer.sender_type}")
    if external and path_leaf is None:
        raise LocalError("an external commit has a path: its leaf is needed to check the list")
    if not external and tree.leaf(LeafIndex(committer.index)) is None:
        raise MlsError("6/sender-not-member", f"leaf {committer.index} commits")
    positions = _by_type(proposals)
    for position, sent in enumerate(proposals):
        with at(position):
            check_parties(sent, context, tree)
            check_committed(sent, committer)
    if external:
        _check_external_counts(positions)
    _check_counts(proposals, positions)
    listed = _listed(proposals, context, policy)

    fresh = _fresh(proposals, committer, path_leaf)
    staying = staying_members(tree, listed.gone, fresh)
    base = staying.support
    checker = ProposalChecker(suite, context, tree, listed.extensions, now_s, authenticate, policy, follow_up)
    if path_leaf is not None:
        _check_path_leaf(path_leaf, committer, positions, listed, checker)
    _raise_all(_content_faults(proposals, checker, base))
    _raise_all(_support_faults(proposals, tree, listed))
    _raise_all(credential_faults(fresh, base))
    _raise_all(client_faults(fresh, tree, listed.gone, policy))
    _raise_all(key_faults(fresh, tree, staying, listed.gone))
    if signatures:
        _raise_all(signature_faults(proposals, checker, run))
    return listed


def _raise_all(faults: Iterator[ProposalError]) -> None:
    """A check goes on behind a fault as if the proposal were not there, so that what is left has none of its kind."""
    for first in faults:
        raise ProposalError(first.reason, first.detail, first.position, tuple(faults))


# -- which stand in it, and how often -------------------------------------------------------------------


def _by_type(proposals: Sequence[SentProposal]) -> dict[int, list[int]]:
    positions: dict[int, list[int]] = {}
    for position, sent in enumerate(proposals):
        positions.setdefault(sent.proposal.proposal_type, []).append(position)
    return positions


def _check_external_counts(positions: dict[int, list[int]]) -> None:
    inits, removes = positions.get(_T.EXTERNAL_INIT, []), positions.get(_T.REMOVE, [])
    if len(inits) != 1:
        raise ProposalError("12.2/external-commit-init-count", f"{len(inits)}", inits[1] if inits else None)
    if len(removes) > 1:
        raise ProposalError("12.2/external-commit-remove-count", f"{len(removes)}", removes[1])


def _check_counts(proposals: Sequence[SentProposal], positions: dict[int, list[int]]) -> None:
    """What a list has once at most (§12.2)."""
    if _T.REINIT in positions and len(proposals) > 1:
        raise ProposalError("12.2/reinit-with-others", f"{len(proposals)} proposals", positions[_T.REINIT][-1])
    changes = positions.get(_T.GROUP_CONTEXT_EXTENSIONS, [])
    if len(changes) > 1:
        raise ProposalError("12.2/duplicate-context-extensions", f"{len(changes)}", changes[1])
    leaves: dict[int, int] = {}
    psks: dict[PreSharedKeyId, int] = {}
    for position, sent in enumerate(proposals):
        if (leaf := leaf_concerned(sent)) is not None and leaves.setdefault(leaf, position) != position:
            raise ProposalError("12.2/same-leaf", f"leaf {leaf}", position)
        if isinstance(sent.proposal, PreSharedKey) and psks.setdefault(sent.proposal.psk, position) != position:
            raise ProposalError("12.2/duplicate-psk", f"{sent.proposal.psk}", position)


def _listed(proposals: Sequence[SentProposal], context: GroupContext, policy: Policy) -> ProposalList:
    adds: list[KeyPackage] = []
    updates: list[tuple[LeafIndex, LeafNode]] = []
    removes: list[LeafIndex] = []
    self_removes: list[LeafIndex] = []
    psks: list[PreSharedKeyId] = []
    reinit: ReInit | None = None
    external_init: ExternalInit | None = None
    changed: Extensions | None = None
    custom: list[SentProposal] = []
    needs_path = not proposals
    for sent in proposals:
        kind = sent.proposal.proposal_type
        needs_path = needs_path or kind in PATH_REQUIRED or kind in policy.path_required
        match sent.proposal:
            case Add(key_package):
                adds.append(key_package)
            case Update(leaf_node):
                updates.append((LeafIndex(sent.sender.index), leaf_node))
            case Remove(removed):
                removes.append(LeafIndex(removed))
            case PreSharedKey(psk):
                psks.append(psk)
            case SelfRemove():
                self_removes.append(LeafIndex(sent.sender.index))
            case ReInit() as reinit:
                pass
            case ExternalInit() as external_init:
                pass
            case GroupContextExtensions(changed):
                pass
            case _:
                custom.append(sent)
    return ProposalList(
        adds=tuple(adds),
        updates=tuple(updates),
        removes=tuple(removes),
        self_removes=tuple(self_removes),
        psks=tuple(psks),
        reinit=reinit,
        external_init=external_init,
        group_context_extensions=changed,
        custom=tuple(custom),
        path_required=needs_path,
        extensions=context.extensions if changed is None else changed,
    )


# -- what is in them, and beside whom --------------------------------------------------------------------


def _content_faults(
    proposals: Sequence[SentProposal], checker: ProposalChecker, base: Support
) -> Iterator[ProposalError]:
    for position, sent in enumerate(proposals):
        try:
            checker.check(sent, base)
        except MlsError as error:
            yield ProposalError(error.reason, error.detail, position)


def _support_faults(
    proposals: Sequence[SentProposal], tree: RatchetTree, listed: ProposalList
) -> Iterator[ProposalError]:
    """Types beyond the default ones need all who were members and remain such (§12.2)."""
    if not listed.custom and not listed.self_removes:
        return
    processing = tree.changed({}, listed.gone, ())[0].support if listed.gone else tree.support
    for position, sent in enumerate(proposals):
        if not processing.all_support_proposal(sent.proposal.proposal_type):
            yield ProposalError("12.2/unsupported-proposal-type", f"{sent.proposal.proposal_type}", position)


def signature_faults(proposals: Sequence[SentProposal], checker: ProposalChecker, run: Run) -> Iterator[ProposalError]:
    """The signatures inside proposals, all at once."""
    owners = [(position, claim) for position, sent in enumerate(proposals) for claim in checker.claims(sent)]
    for forged in forgeries(checker.suite, [claim for _, claim in owners], run):
        position, claim = owners[forged]
        yield ProposalError(claim.rule, "", position)


def _fresh(proposals: Sequence[SentProposal], committer: Sender, path_leaf: LeafNode | None) -> list[FreshLeaf]:
    """The path's leaf comes first, as no committer can leave it out: whoever clashes with it is at fault."""
    fresh: list[FreshLeaf] = []
    if path_leaf is not None:
        member = committer.sender_type == SenderType.MEMBER
        fresh.append(FreshLeaf(path_leaf, LeafIndex(committer.index) if member else None, None))
    for position, sent in enumerate(proposals):
        if isinstance(sent.proposal, Add):
            fresh.append(FreshLeaf(sent.proposal.key_package.leaf_node, None, position))
        elif isinstance(sent.proposal, Update):
            fresh.append(FreshLeaf(sent.proposal.leaf_node, LeafIndex(sent.sender.index), position))
    return fresh


def _check_path_leaf(
    leaf: LeafNode, committer: Sender, positions: dict[int, list[int]], listed: ProposalList, checker: ProposalChecker
) -> None:
    """The committer's new leaf: fit for the group, and the rightful heir of whose place it takes (§7.5, §12.2)."""
    changes = positions.get(_T.GROUP_CONTEXT_EXTENSIONS)
    with at(changes[0] if changes else None):
        check_abilities(leaf, demands(checker.suite, listed.extensions))
    if committer.sender_type == SenderType.MEMBER:
        old = checker.tree.leaf(LeafIndex(committer.index))
        assert old is not None  # asked at the start
        check_credential_successor(old, leaf, checker.policy)
    elif listed.removes:
        old = checker.tree.leaf(listed.removes[0])
        assert old is not None  # the Remove was checked
        with at(positions[_T.REMOVE][0]):
            _check_return(old, leaf, checker)


def _check_return(old: LeafNode, leaf: LeafNode, checker: ProposalChecker) -> None:
    """An external commit replaces its author's leaf only: or whoever has the group info removes whom he likes.

    Where no authentication service says who may have a credential, anybody can write a member's name: there the
    signature key has to be the old one.
    """
    stranger = checker.authenticate is None and old.signature_key != leaf.signature_key
    if stranger or not checker.policy.may_succeed(old.credential, leaf.credential):
        raise MlsError("12.2/external-commit-remove-other", f"{leaf.credential} removes {old.credential}")
    check_successor(old, leaf, checker.policy)
