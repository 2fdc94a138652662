"""Processing a commit (RFC 9420 §12.4.2): the whole next epoch, before anybody adopts it.

A staged commit is a value beside its parent. It shows who comes and goes, which keys change and what the new
epoch exports; dropping it costs nothing, and several on one parent may be held at once. That is the only way to
choose between two commits without doing one of them first.
"""

from collections.abc import Callable, Mapping, Sequence
from hmac import compare_digest
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from protocols.mls.chunks import Run
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.credentials import Authenticate, BasicCredential
from protocols.mls.epoch import Epoch, Secrets, entered, scheduled, take_message_keys
from protocols.mls.errors import MlsError
from protocols.mls.framing import AuthenticatedContent, Sender, SenderType
from protocols.mls.group_context import GroupContext
from protocols.mls.key_package import KeyPackage
from protocols.mls.key_schedule import EpochSecrets, confirmation_tag, receive_external_init
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode, LeafNodeSource
from protocols.mls.message_keys import MessageKeys
from protocols.mls.opening import VerifiedCommit, VerifiedProposal
from protocols.mls.policy import DEFAULT_POLICY, Policy
from protocols.mls.proposal_list import ProposalList, apply_proposals, check_proposals
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.psk import PSKS_MAX, PreSharedKeyId, ResumptionUsage
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.transcript import confirmed_transcript_hash
from protocols.mls.tree_private import TreePrivate
from protocols.mls.treekem import apply_path, open_path
from protocols.mls.validation import check_leaf_node
from protocols.mls.welcome import Welcome

PskLookup: TypeAlias = Callable[[PreSharedKeyId], bytes | None]
"""Where pre-shared keys come from; None if this one is not known here."""


def no_psks(_: PreSharedKeyId) -> bytes | None:
    """The lookup of those who share no keys."""
    return None


EPOCH_MAX: Final = 2**64 - 1
"""What a ``uint64`` counts. Whoever shows a group to a newcomer can give it any number."""


class Checks(msgspec.Struct, frozen=True):
    """Against what the contents of proposals and leaves are held."""

    now_s: int | None = None
    """Unix time, for the lifetimes of key packages; None leaves them unchecked."""
    authenticate: Authenticate | None = None
    """The authentication service (§5.3.1), asked about every leaf that is new; None trusts all."""
    policy: Policy = DEFAULT_POLICY
    run: Run = map
    """``map``, or a thread pool's: signatures are checked in chunks."""


NO_CHECKS: Final = Checks()


class MissingProposalsError(MlsError):
    """A commit names proposals that have not arrived: keep it until they do (erratum 8815)."""

    def __init__(self, references: tuple[bytes, ...]) -> None:
        first = references[0].hex() if references else "none"
        super().__init__("erratum-8815/unknown-proposal", f"{len(references)} of them, first {first}")
        self.references = references

    def __reduce__(self) -> tuple[type["MissingProposalsError"], tuple[tuple[bytes, ...]]]:  # type: ignore[override]
        return type(self), (self.references,)


class LeafSecrets(msgspec.Struct, frozen=True, gc=False):
    """The private keys of a leaf that we proposed, kept until somebody commits it."""

    encryption_private: bytes
    signature_private: bytes

    def __repr__(self) -> str:
        return "LeafSecrets(...)"


class SealedWelcome(msgspec.Struct, frozen=True):
    """A Welcome and the leaves of those whom it is for."""

    joiners: tuple[LeafIndex, ...]
    welcome: Welcome


class StagedCommit(msgspec.Struct, frozen=True, eq=False):
    """A commit that was found sound, and what follows if it is adopted."""

    parent: bytes
    """The authenticator of the epoch it was made in."""
    committer: LeafIndex
    """Of an external commit: the leaf that its author gets."""
    external: bool
    proposals: ProposalList
    added: tuple[tuple[LeafIndex, KeyPackage], ...]
    removed: tuple[LeafIndex, ...]
    updated: tuple[LeafIndex, ...]
    authenticated: AuthenticatedContent
    id: bytes
    """``commit_id``."""
    next: Epoch | None
    """The epoch as we would be in it; None if the commit removes us."""
    keys: MessageKeys | None
    """The one object of that epoch's message keys; None with ``next``."""
    own: bool = False
    welcomes: tuple[SealedWelcome, ...] = ()
    """What our own commit gives those whom it adds, to be sent once it is adopted: earlier, it may lead them
    into an epoch that nobody enters."""

    def __repr__(self) -> str:
        return f"StagedCommit(by leaf {self.committer} on {self.parent.hex()[:16]} -> {self.next!r})"

    @property
    def commit(self) -> Commit:
        content = self.authenticated.content.content
        assert isinstance(content, Commit)
        return content


class Proposed(msgspec.Struct, frozen=True, eq=False):
    """What a commit's proposals alone make of an epoch."""

    proposals: ProposalList
    tree: RatchetTree
    context: GroupContext
    """The next epoch's, but for the tree hash and the transcript."""
    committer: LeafIndex
    added: tuple[tuple[LeafIndex, KeyPackage], ...]
    removed: tuple[LeafIndex, ...]
    updated: tuple[LeafIndex, ...]

    @property
    def joiners(self) -> tuple[LeafIndex, ...]:
        """Who gets the path secret in a Welcome, so not from the path (§7.5)."""
        return tuple(index for index, _ in self.added)

    def provisional(self, tree_hash: bytes) -> GroupContext:
        """The context under which path secrets are encrypted: the transcript is still the old one (§12.4.1)."""
        return msgspec.structs.replace(self.context, tree_hash=tree_hash)


VACANT: Final = LeafNode(b"", b"", BasicCredential(b""), Capabilities(), LeafNodeSource.UPDATE, None, None, (), b"")
"""Holds the place of an external committer, the leftmost that is free, until the path brings its leaf."""


def propose_changes(
    epoch: Epoch,
    sent: Sequence[SentProposal],
    committer: Sender,
    checks: Checks,
    *,
    path_leaf: LeafNode | None,
    follow_up: ResumptionUsage | None = None,
) -> Proposed:
    """Check a commit's proposals as one list and apply them (§12.2, §12.3).

    Args:
        path_leaf: the committer's new leaf, if the commit has a path.
        follow_up: set in the first commit of a group that continues another.
    """
    if epoch.reinit is not None:
        raise MlsError("11.2/suspended", f"epoch {epoch.number} ended the group by a ReInit proposal")
    if epoch.number == EPOCH_MAX:
        raise MlsError("8.1/last-epoch", f"epoch {epoch.number}: a group begins at 0 and never gets this far")
    listed = check_proposals(
        suite=epoch.suite,
        context=epoch.context,
        tree=epoch.tree,
        proposals=sent,
        committer=committer,
        path_leaf=path_leaf,
        now_s=checks.now_s,
        authenticate=checks.authenticate,
        policy=checks.policy,
        follow_up=follow_up,
        run=checks.run,
    )
    if path_leaf is None and listed.path_required:
        raise MlsError("12.4/path-required", "these proposals need a path" if sent else "an empty commit needs a path")
    applied = apply_proposals(epoch.tree, listed)
    tree, leaf = applied.tree, LeafIndex(committer.index)
    if committer.sender_type == SenderType.NEW_MEMBER_COMMIT:
        tree, (leaf,) = tree.changed({}, (), (VACANT,))
    context = msgspec.structs.replace(epoch.context, epoch=epoch.number + 1, extensions=applied.extensions)
    return Proposed(listed, tree, context, leaf, applied.added, applied.removed, applied.updated)


def stage_commit(
    epoch: Epoch,
    verified: VerifiedCommit,
    *,
    proposals: Mapping[bytes, VerifiedProposal],
    own_updates: Mapping[bytes, LeafSecrets] = MappingProxyType({}),
    psks: PskLookup = no_psks,
    checks: Checks = NO_CHECKS,
) -> StagedCommit:
    """Check somebody's commit whole, and compute the epoch that it leads to.

    Args:
        proposals: those that arrived in this epoch, by reference.
        own_updates: the private keys of leaves that we proposed in this epoch, by their public encryption key.

    Raises:
        MissingProposalsError: the commit refers to proposals that are not among these.
        MlsError: a rule is broken; or a PSK is not known here, ``8.4/unknown-psk``.
    """
    commit = verified.commit
    proposed, tree = _followed(epoch, verified, proposals, checks)
    if epoch.own_leaf in proposed.removed:
        return staged_commit(epoch, proposed, verified.authenticated, None, None)

    private, signature_private = own_keys_after(epoch, proposed, own_updates)
    commit_secret = bytes(epoch.suite.hash_size)
    if commit.path is not None:
        provisional = proposed.provisional(tree.tree_hash).encode()
        private, commit_secret = open_path(
            tree, private, proposed.committer, commit.path, provisional, proposed.joiners
        )
    else:
        private = private.pruned(tree)
    init_secret = epoch.secrets.init_secret
    if proposed.proposals.external_init is not None:
        kem_output = proposed.proposals.external_init.kem_output
        init_secret = receive_external_init(epoch.suite, epoch.secrets.external_secret, kem_output)
    context = final_context(epoch, proposed, tree, verified.authenticated)
    known = known_psks(proposed.proposals.psks, psks)
    secrets = scheduled(epoch.suite, context, init_secret, commit_secret, known)
    tag = verified.authenticated.auth.confirmation_tag or b""
    if not compare_digest(tag, secrets.confirmation_tag):
        raise MlsError("12.4.2/confirmation-tag", f"of the commit by leaf {proposed.committer}")
    entry, keys = enter(epoch, proposed, context, tree, secrets, private, signature_private)
    return staged_commit(epoch, proposed, verified.authenticated, entry, keys)


class OwnPart(msgspec.Struct, frozen=True):
    """What of a staged commit does not follow from the commit itself, but from our keys."""

    secrets: EpochSecrets
    keys: MessageKeys
    private: TreePrivate
    signature_private: bytes

    def __repr__(self) -> str:
        return "OwnPart(...)"


def restage(
    epoch: Epoch,
    verified: VerifiedCommit,
    proposals: Mapping[bytes, VerifiedProposal],
    part: OwnPart | None,
    checks: Checks,
    *,
    own: bool,
    welcomes: tuple[SealedWelcome, ...],
) -> StagedCommit:
    """A commit that was staged before, with ``part`` as it was then: nothing is decrypted again.

    Raises:
        MlsError: the commit does not belong to this epoch, or what is stored of it was altered.
    """
    proposed, tree = _followed(epoch, verified, proposals, checks)
    if part is None:
        return staged_commit(epoch, proposed, verified.authenticated, None, None)
    tag = verified.authenticated.auth.confirmation_tag or b""
    context = final_context(epoch, proposed, tree, verified.authenticated)
    wanted = confirmation_tag(epoch.suite, part.secrets.confirmation_key, context.confirmed_transcript_hash)
    if not compare_digest(tag, wanted):
        raise MlsError("12.4.2/confirmation-tag", "the stored secrets are not those of the stored commit")
    entry = entered(
        epoch.suite, context, tree, tag, part.secrets, part.private, part.signature_private, proposed.proposals.reinit
    )
    staged = staged_commit(epoch, proposed, verified.authenticated, entry, part.keys, own=own)
    return msgspec.structs.replace(staged, welcomes=welcomes)


def _followed(
    epoch: Epoch, verified: VerifiedCommit, proposals: Mapping[bytes, VerifiedProposal], checks: Checks
) -> tuple[Proposed, RatchetTree]:
    """What everybody can see of a commit: its proposals applied, and the tree with its path in it."""
    path, sender = verified.commit.path, verified.sender
    path_leaf = None if path is None else path.leaf_node
    sent = resolved(verified.commit, sender, proposals)
    proposed = propose_changes(epoch, sent, sender, checks, path_leaf=path_leaf)
    if path is None:
        return proposed, proposed.tree
    check_path_leaf(epoch, proposed, path.leaf_node, checks)
    return proposed, apply_path(proposed.tree, proposed.committer, path, proposed.joiners)


def resolved(commit: Commit, sender: Sender, known: Mapping[bytes, VerifiedProposal]) -> tuple[SentProposal, ...]:
    """A commit's proposals, each with who made it: by reference its own sender, by value the committer."""
    missing = tuple(
        each.reference for each in commit.proposals if isinstance(each, ProposalRef) and each.reference not in known
    )
    if missing:
        raise MissingProposalsError(missing)
    sent = []
    for each in commit.proposals:
        if isinstance(each, ProposalRef):
            proposal = known[each.reference]
            sent.append(SentProposal(proposal.proposal, proposal.sender, each.reference))
        else:
            sent.append(SentProposal(each, sender, None))
    return tuple(sent)


def check_path_leaf(epoch: Epoch, proposed: Proposed, leaf: LeafNode, checks: Checks) -> None:
    """The committer's new leaf for itself (§7.3); beside the others it was checked with the proposals."""
    check_leaf_node(
        leaf,
        suite=epoch.suite,
        source=LeafNodeSource.COMMIT,
        group_id=epoch.group_id,
        leaf_index=proposed.committer,
        extensions=proposed.context.extensions,
        support=None,
        now_s=checks.now_s,
        authenticate=checks.authenticate,
        policy=checks.policy,
    )


def own_keys_after(
    epoch: Epoch, proposed: Proposed, own_updates: Mapping[bytes, LeafSecrets]
) -> tuple[TreePrivate, bytes]:
    """Our private keys once the proposals are applied: others', if our own Update is among them."""
    if epoch.own_leaf not in proposed.updated:
        return epoch.private, epoch.signature_private
    leaf = proposed.tree.leaf(epoch.own_leaf)
    secrets = None if leaf is None else own_updates.get(leaf.encryption_key)
    if secrets is None:
        raise MlsError("12.1.2/unknown-update", "an Update of our own leaf, whose private keys we do not have")
    return epoch.private.with_leaf_key(secrets.encryption_private), secrets.signature_private


def final_context(
    epoch: Epoch, proposed: Proposed, tree: RatchetTree, authenticated: AuthenticatedContent
) -> GroupContext:
    """The next epoch's context: new tree, new transcript (§8.2)."""
    transcript = confirmed_transcript_hash(epoch.suite, epoch.interim_transcript_hash, authenticated)
    return msgspec.structs.replace(proposed.context, tree_hash=tree.tree_hash, confirmed_transcript_hash=transcript)


def known_psks(ids: tuple[PreSharedKeyId, ...], psks: PskLookup) -> tuple[tuple[PreSharedKeyId, bytes], ...]:
    """Each named pre-shared key with its secret."""
    if len(ids) > PSKS_MAX:
        raise MlsError("8.4/psk-count", f"{len(ids)} PSKs")
    found = []
    for psk_id in ids:
        psk = psks(psk_id)
        if psk is None:
            raise MlsError("8.4/unknown-psk", f"{psk_id!r}")
        found.append((psk_id, psk))
    return tuple(found)


def enter(
    epoch: Epoch,
    proposed: Proposed,
    context: GroupContext,
    tree: RatchetTree,
    secrets: Secrets,
    private: TreePrivate,
    signature_private: bytes,
) -> tuple[Epoch, MessageKeys]:
    """The next epoch, as the owner of these private keys sees it."""
    kept, keys = take_message_keys(epoch.suite, secrets.epoch, tree, private.leaf_index)
    reinit = proposed.proposals.reinit
    tag = secrets.confirmation_tag
    return entered(epoch.suite, context, tree, tag, kept, private, signature_private, reinit), keys


def staged_commit(
    epoch: Epoch,
    proposed: Proposed,
    authenticated: AuthenticatedContent,
    entry: Epoch | None,
    keys: MessageKeys | None,
    *,
    own: bool = False,
) -> StagedCommit:
    """All that was found of a commit on ``epoch``, side by side."""
    return StagedCommit(
        parent=epoch.authenticator,
        committer=proposed.committer,
        external=authenticated.content.sender.sender_type == SenderType.NEW_MEMBER_COMMIT,
        proposals=proposed.proposals,
        added=proposed.added,
        removed=proposed.removed,
        updated=proposed.updated,
        authenticated=authenticated,
        id=commit_id(epoch, authenticated),
        next=entry,
        keys=keys,
        own=own,
    )


def commit_id(epoch: Epoch, authenticated: AuthenticatedContent) -> bytes:
    """A commit's name: the hash of all of it."""
    return epoch.suite.hash(authenticated.encode())
