"""Making a commit (RFC 9420 §12.4.1), and the Welcomes for those whom it adds (§12.4.3).

The result is a staged commit like any other: with our own secrets for the next epoch in it, it can be sent,
dropped for a rival's, and taken up again if the rival's branch loses. We could not process it from the wire: its
path secrets are encrypted to everybody but us.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import msgspec

from protocols.errors import LocalError
from protocols.mls.chunks import Run, in_chunks
from protocols.mls.client import signed_leaf_node
from protocols.mls.codec import Reader
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.credentials import Credential
from protocols.mls.epoch import Epoch, Secrets, scheduled
from protocols.mls.extensions import Extensions
from protocols.mls.framing import FramedContent, Sender, WireFormat, member
from protocols.mls.key_package import KeyPackage
from protocols.mls.key_schedule import welcome_key_nonce, welcome_secret
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode, LeafNodeSource
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.protection import sign_content
from protocols.mls.psk import PreSharedKeyId, ResumptionUsage
from protocols.mls.signatures import SignatureKeyPair
from protocols.mls.staging import (
    NO_CHECKS,
    Checks,
    Proposed,
    PskLookup,
    SealedWelcome,
    StagedCommit,
    enter,
    final_context,
    known_psks,
    no_psks,
    propose_changes,
    staged_commit,
)
from protocols.mls.suite import Entropy
from protocols.mls.treekem import NewPath, new_path
from protocols.mls.update_path import HpkeCiphertext
from protocols.mls.welcome import EncryptedGroupSecrets, GroupSecrets, Welcome


class Welcomes(Enum):
    """How those who are added learn of it."""

    ONE_FOR_ALL = "one message for all joiners"
    ONE_EACH = "one message a joiner: no joiner learns whom else was added, and no message outgrows a frame"


class LeafChange(msgspec.Struct, frozen=True):
    """What else changes in our leaf when its encryption key does; None leaves a field as it is."""

    signature: SignatureKeyPair | None = None
    credential: Credential | None = None
    capabilities: Capabilities | None = None
    extensions: Extensions | None = None


NO_CHANGE: Final = LeafChange()


def successor(
    old: LeafNode,
    signature: SignatureKeyPair,
    change: LeafChange,
    source: LeafNodeSource,
    encryption_key: bytes,
    parent_hash: bytes | None,
) -> LeafNode:
    """A leaf to follow ``old``, to be signed yet."""
    return LeafNode(
        encryption_key=encryption_key,
        signature_key=signature.public,
        credential=old.credential if change.credential is None else change.credential,
        capabilities=old.capabilities if change.capabilities is None else change.capabilities,
        source=source,
        lifetime=None,
        parent_hash=parent_hash,
        extensions=old.extensions if change.extensions is None else change.extensions,
        signature=b"",
    )


def make_commit(
    epoch: Epoch,
    proposals: Sequence[SentProposal],
    *,
    entropy: Entropy,
    wire_format: WireFormat = WireFormat.PRIVATE_MESSAGE,
    with_path: bool = True,
    leaf: LeafChange = NO_CHANGE,
    psks: PskLookup = no_psks,
    authenticated_data: bytes = b"",
    welcomes: Welcomes = Welcomes.ONE_FOR_ALL,
    tree_in_welcome: bool = True,
    group_info_extensions: Extensions = (),
    checks: Checks = NO_CHECKS,
    follow_up: ResumptionUsage | None = None,
) -> StagedCommit:
    """Commit these proposals, and with a path fresh keys of ours.

    Args:
        proposals: by value if they have no reference; those are ours.
        with_path: False leaves the path out, if the proposals allow that: cheaper, and no fresh secrecy.
        leaf: changes of our own leaf, which travel in the path.
        tree_in_welcome: False keeps Welcomes small; joiners must then get ``next.tree.encode()`` elsewhere.
        follow_up: set in the first commit of a group that continues another (§11.2, §11.3).

    Raises:
        MlsError: the proposals cannot be committed together, by the rule that it names.
        LocalError: changes of our leaf without a path.
    """
    if leaf is not NO_CHANGE and not with_path:
        raise LocalError("changes of our own leaf travel in a commit's path: make it with one")
    committer = member(epoch.own_leaf)
    signer = epoch.signer
    maker = LeafMaker(epoch, epoch.own_leaf_node, leaf.signature or signer, leaf)
    draft = maker.draft() if with_path else None
    proposed = propose_changes(epoch, proposals, committer, checks, path_leaf=draft, follow_up=follow_up)
    path = maker.path(proposed, entropy) if with_path else None
    completed = complete_commit(
        epoch,
        proposed,
        committer,
        proposals,
        path,
        maker.signature.private,
        signer=signer,
        init_secret=epoch.secrets.init_secret,
        wire_format=wire_format,
        psks=known_psks(proposed.proposals.psks, psks),
        authenticated_data=authenticated_data,
        entropy=entropy,
        run=checks.run,
    )
    if not proposed.added:
        return completed.commit
    sealed = make_welcomes(
        completed,
        path,
        style=welcomes,
        with_tree=tree_in_welcome,
        more=group_info_extensions,
        psks=proposed.proposals.psks,
        entropy=entropy,
        run=checks.run,
    )
    return msgspec.structs.replace(completed.commit, welcomes=sealed)


def draft_leaf(epoch: Epoch, change: LeafChange) -> LeafNode:
    """What is known of our next leaf before there is a commit."""
    return LeafMaker(epoch, epoch.own_leaf_node, change.signature or epoch.signer, change).draft()


class LeafMaker:
    """Makes the committer's new leaf, in the two moments in which it is needed."""

    def __init__(self, epoch: Epoch, old: LeafNode, signature: SignatureKeyPair, change: LeafChange) -> None:
        self.epoch: Final = epoch
        self.signature: Final = signature
        self._old: Final = old
        self._change: Final = change

    def draft(self) -> LeafNode:
        """What is known of it before there are proposals applied, a path, and a place to sign for."""
        return successor(self._old, self.signature, self._change, LeafNodeSource.COMMIT, b"", b"")

    def path(self, proposed: Proposed, entropy: Entropy) -> NewPath:
        """The path, with the leaf in it."""

        def make(parent_hash: bytes, encryption_key: bytes) -> LeafNode:
            leaf = successor(
                self._old, self.signature, self._change, LeafNodeSource.COMMIT, encryption_key, parent_hash
            )
            epoch, private = self.epoch, self.signature.private
            return signed_leaf_node(leaf, epoch.suite, private, epoch.group_id, proposed.committer)

        return new_path(proposed.tree, proposed.committer, make, entropy)


class Completed(msgspec.Struct, frozen=True, eq=False):
    """A commit of ours, and the secrets that its Welcomes pass on."""

    commit: StagedCommit
    secrets: Secrets

    @property
    def next(self) -> Epoch:
        assert self.commit.next is not None
        return self.commit.next


def complete_commit(
    epoch: Epoch,
    proposed: Proposed,
    committer: Sender,
    proposals: Sequence[SentProposal],
    path: NewPath | None,
    signature_private: bytes,
    *,
    signer: SignatureKeyPair,
    init_secret: bytes,
    wire_format: WireFormat,
    psks: tuple[tuple[PreSharedKeyId, bytes], ...],
    authenticated_data: bytes,
    entropy: Entropy,
    run: Run,
) -> Completed:
    """From the proposals and the path to the signed commit and the epoch that it begins (§12.4.1).

    It is signed by ``signer``, the key of the parent epoch; ``signature_private`` is that of the next.
    """
    suite = epoch.suite
    tree, private, commit_secret = proposed.tree, epoch.private, bytes(suite.hash_size)
    update_path = None
    if path is not None:
        tree, private, commit_secret = path.tree, path.private, path.commit_secret
        context = proposed.provisional(tree.tree_hash).encode()
        update_path = path.encrypt(context, proposed.joiners, entropy, run)
    else:
        private = private.pruned(tree)
    items = tuple(each.proposal if each.reference is None else ProposalRef(each.reference) for each in proposals)
    commit = Commit(items, update_path)
    content = FramedContent(epoch.group_id, epoch.number, committer, authenticated_data, commit)
    authenticated = sign_content(suite, signer.private, signer.public, wire_format, content, epoch.context_bytes)
    final = final_context(epoch, proposed, tree, authenticated)
    secrets = scheduled(suite, final, init_secret, commit_secret, psks)
    auth = msgspec.structs.replace(authenticated.auth, confirmation_tag=secrets.confirmation_tag)
    authenticated = msgspec.structs.replace(authenticated, auth=auth)
    entry, keys = enter(epoch, proposed, final, tree, secrets, private, signature_private)
    return Completed(staged_commit(epoch, proposed, authenticated, entry, keys, own=True), secrets)


def make_welcomes(
    completed: Completed,
    path: NewPath | None,
    *,
    style: Welcomes,
    with_tree: bool,
    more: Extensions,
    psks: tuple[PreSharedKeyId, ...],
    entropy: Entropy,
    run: Run,
) -> tuple[SealedWelcome, ...]:
    """The group info under the new epoch's welcome key, and what opens it for each joiner (§12.4.3.1)."""
    commit, secrets, epoch = completed.commit, completed.secrets, completed.next
    suite = epoch.suite
    group_info = epoch.group_info(with_tree=with_tree, with_external_pub=False, more=more).encode()
    key, nonce = welcome_key_nonce(suite, welcome_secret(suite, secrets.joiner_secret, secrets.psk_secret))
    encrypted_group_info = suite.aead(key).encrypt(nonce, group_info, b"")
    encryptor = suite.encryptor(b"Welcome", encrypted_group_info)
    jobs = [(leaf, key_package, suite.kem.draw_ikm(entropy)) for leaf, key_package in commit.added]

    def seal_all(jobs: Sequence[tuple[LeafIndex, KeyPackage, bytes]]) -> Iterator[EncryptedGroupSecrets]:
        for leaf, key_package, drawn in jobs:
            path_secret = None if path is None else path.path_secret_for(leaf)
            plaintext = GroupSecrets(secrets.joiner_secret, path_secret, psks).encode()
            sealed = encryptor.seal(key_package.init_key, plaintext, Reader(drawn).take)
            yield EncryptedGroupSecrets(suite.key_package_ref(key_package.encode()), HpkeCiphertext(*sealed))

    sealed = list(in_chunks(run, seal_all, jobs))
    leaves = [leaf for leaf, _ in commit.added]
    if style is Welcomes.ONE_EACH:
        return tuple(
            SealedWelcome((leaf,), Welcome(suite.id, (each,), encrypted_group_info))
            for leaf, each in zip(leaves, sealed, strict=True)
        )
    return (SealedWelcome(tuple(leaves), Welcome(suite.id, tuple(sealed), encrypted_group_info)),)
