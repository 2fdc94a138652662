"""Commits and Welcomes made as RFC 9420 wants them, but for one step that a test alters.

An honest member's code refuses to make what its peers would refuse. Here nothing is refused: the proposals are
applied unchecked, and what follows from an alteration is made to fit it. Leaf and message are signed by whoever has
the key, parent hashes and tree hash belong to the altered tree, and the tags to its epoch; so what a receiver can
find wrong is the alteration and nothing else. That it is found, ``refusals`` asserts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from protocols.mls.client import signed_leaf_node
from protocols.mls.codec import vector
from protocols.mls.commit import Commit, ProposalRef
from protocols.mls.committing import NO_CHANGE, LeafMaker
from protocols.mls.epoch import Epoch, Secrets, scheduled
from protocols.mls.extensions import Extension, ExtensionType
from protocols.mls.framing import (
    NEW_MEMBER_COMMIT,
    AuthenticatedContent,
    FramedContent,
    PublicMessage,
    Sender,
    SenderType,
    WireFormat,
    member,
)
from protocols.mls.group import Group
from protocols.mls.group_context import GroupContext
from protocols.mls.key_schedule import external_key_pair, send_external_init, welcome_key_nonce, welcome_secret
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.message import encode_message
from protocols.mls.opening import VerifiedProposal
from protocols.mls.policy import DEFAULT_POLICY
from protocols.mls.proposal_list import _listed, apply_proposals
from protocols.mls.proposal_rules import SentProposal, is_member
from protocols.mls.proposals import Add, ExternalInit, Proposal
from protocols.mls.protection import membership_tag, sign_content
from protocols.mls.psk import PreSharedKeyId
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.staging import VACANT, Proposed, final_context
from protocols.mls.suite import SignatureKeyPair
from protocols.mls.treekem import NewPath, new_path
from protocols.mls.update_path import HpkeCiphertext, UpdatePath
from protocols.mls.welcome import GROUP_INFO_LABEL, EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome
from tests.protocols.mls.kit import Client
from tests.protocols.mls.trees import counting_entropy

T = TypeVar("T")
Alter: TypeAlias = Callable[[T], T]
Node: TypeAlias = LeafNode | ParentNode | None


def same(value: T) -> T:
    return value


class Forged(NamedTuple):
    """A commit for the wire, and what its author knows of the epoch that it would begin."""

    message: bytes
    authenticated: AuthenticatedContent
    proposed: Proposed
    tree: RatchetTree
    context: GroupContext
    secrets: Secrets
    path: NewPath | None


class Step(msgspec.Struct, frozen=True):
    """What is altered of a commit; as it stands, nothing."""

    with_path: bool = True
    leaf: Mapping[str, Any] = {}
    """Fields of the path's leaf, before it is signed."""
    leaf_signer: Client | None = None
    """Who signs it; its owner if nobody is named."""
    path_secrets: Alter[tuple[bytes, ...]] = same
    """Before they are encrypted; the public keys stay."""
    path: Alter[UpdatePath] = same
    """As it is sent."""
    commit: Alter[Commit] = same
    content: Mapping[str, Any] = {}
    """Fields of what is signed."""
    tag: Alter[bytes] = same
    """The confirmation tag."""


def forge_commit(
    author: Group, *proposals: Proposal | VerifiedProposal, step: Step | None = None, **steps: Any
) -> Forged:
    """A member's commit: proposals by value, or by reference if they were received. ``steps`` are those of ``Step``."""
    epoch = author.current
    sender, leaf = member(epoch.own_leaf), epoch.own_leaf_node
    signer = SignatureKeyPair(epoch.signature_private, leaf.signature_key)
    sent = [_sent(each, sender) for each in proposals]
    return _forged(epoch, sent, sender, leaf, signer, epoch.secrets.init_secret, step or Step(**steps))


def forge_external_commit(
    inside: Group,
    joiner: Client,
    *proposals: Proposal | VerifiedProposal,
    init: Callable[[ExternalInit], Sequence[Proposal]] = lambda init: (init,),
    **steps: Any,
) -> Forged:
    """The commit by which somebody joins the group from outside; ``init`` is what stands first in it."""
    epoch = inside.current
    _, key = external_key_pair(epoch.suite, epoch.secrets.external_secret)
    kem_output, init_secret = send_external_init(epoch.suite, key, joiner.entropy)
    sent = [_sent(each, NEW_MEMBER_COMMIT) for each in (*init(ExternalInit(kem_output)), *proposals)]
    return _forged(epoch, sent, NEW_MEMBER_COMMIT, joiner.leaf, joiner.signature, init_secret, Step(**steps))


def forge_welcome(
    author: Group,
    joiner: Client,
    *proposals: Proposal,
    psks: tuple[PreSharedKeyId, ...] = (),
    known: Mapping[PreSharedKeyId, bytes] | None = None,
    nodes: Alter[list[Node]] = same,
    encoded: Alter[bytes] = same,
    context: Mapping[str, Any] | None = None,
    info: Alter[GroupInfo] = same,
    info_signer: Client | None = None,
    group_secrets: Alter[GroupSecrets] = same,
    welcome: Alter[Welcome] = same,
    **steps: Any,
) -> Welcome:
    """The Welcome of a commit that adds ``joiner``, into an epoch that is altered and otherwise whole.

    Args:
        psks: those that the Welcome names, and ``known`` their secrets if they are not empty.
        nodes: the tree, node by node; its hash follows.
        encoded: the tree as it is sent, which no hash can follow.
        context: fields of the group context.
        info: the group info before it is signed, by ``info_signer`` or the author.
    """
    forged = forge_commit(author, Add(joiner.key_package), *proposals, **steps)
    suite = author.current.suite
    listed = nodes(nodes_of(forged.tree))
    data = encode_nodes(listed)
    changes = dict(context or {})
    if nodes is not same:
        changes.setdefault("tree_hash", RatchetTree.decode(suite, data).tree_hash)
    altered = msgspec.structs.replace(forged.context, **changes)
    secrets = known or {}
    entered = scheduled(
        suite,
        altered,
        author.current.secrets.init_secret,
        bytes(suite.hash_size) if forged.path is None else forged.path.commit_secret,
        tuple((each, secrets.get(each, b"")) for each in psks),
    )
    tree = Extension(ExtensionType.RATCHET_TREE, encoded(data))
    signer = author.current.own_leaf
    unsigned = info(GroupInfo(altered, (tree,), entered.confirmation_tag, signer, b""))
    private, public = author.current.signature_private, author.current.own_leaf_node.signature_key
    if info_signer is not None:
        private, public = info_signer.signature
    signature = suite.sign_with_label(private, public, GROUP_INFO_LABEL, unsigned.to_be_signed())
    group_info = msgspec.structs.replace(unsigned, signature=signature).encode()
    key, nonce = welcome_key_nonce(suite, welcome_secret(suite, entered.joiner_secret, entered.psk_secret))
    encrypted = suite.aead(key).encrypt(nonce, group_info, b"")

    place = forged.proposed.joiners[0]
    path_secret = None if forged.path is None else forged.path.path_secret_for(place)
    plaintext = group_secrets(GroupSecrets(entered.joiner_secret, path_secret, psks)).encode()
    sealed = suite.encrypt_with_label(joiner.key_package.init_key, b"Welcome", encrypted, plaintext, joiner.entropy)
    reference = suite.key_package_ref(joiner.key_package.encode())
    return welcome(Welcome(suite.id, (EncryptedGroupSecrets(reference, HpkeCiphertext(*sealed)),), encrypted))


# -- trees as lists of nodes ------------------------------------------------------------------------


def nodes_of(tree: RatchetTree) -> list[Node]:
    """From left to right, without the blanks at the end."""
    nodes = [tree.node(NodeIndex(at)) for at in range(2 * tree.leaf_count - 1)]
    while nodes[-1] is None:
        nodes.pop()
    return nodes


def encode_nodes(nodes: Sequence[Node]) -> bytes:
    def encode(node: Node) -> bytes:
        if node is None:
            return b"\0"
        return (b"\1\1" if isinstance(node, LeafNode) else b"\1\2") + node.encode()

    return vector(map(encode, nodes))


# -- the steps of §12.4.1 ---------------------------------------------------------------------------


def forge_message(
    epoch: Epoch, content: FramedContent, signer: SignatureKeyPair, *, confirmation_tag: bytes | None = None
) -> bytes:
    """A public message of anybody's, with the tag that members can make if it is a member's."""
    signed = sign_content(
        epoch.suite,
        signer.private,
        signer.public,
        WireFormat.PUBLIC_MESSAGE,
        content,
        epoch.context_bytes,
        confirmation_tag,
    )
    return enveloped(epoch, signed)


def enveloped(epoch: Epoch, signed: AuthenticatedContent) -> bytes:
    tag = None
    if signed.content.sender.sender_type == SenderType.MEMBER:
        tag = membership_tag(epoch.suite, epoch.secrets.membership_key, signed, epoch.context_bytes)
    return encode_message(PublicMessage(signed.content, signed.auth, tag))


def _sent(proposal: Proposal | VerifiedProposal, committer: Sender) -> SentProposal:
    if isinstance(proposal, VerifiedProposal):
        return SentProposal(proposal.proposal, proposal.sender, proposal.reference)
    return SentProposal(proposal, committer, None)


def _forged(
    epoch: Epoch,
    sent: Sequence[SentProposal],
    committer: Sender,
    leaf: LeafNode,
    signer: SignatureKeyPair,
    init_secret: bytes,
    step: Step,
) -> Forged:
    suite = epoch.suite
    proposed = _applied(epoch, sent, committer)
    tree, commit_secret, path, update_path = proposed.tree, bytes(suite.hash_size), None, None
    if step.with_path:
        path = _new_path(epoch, proposed, leaf, signer, step)
        tree, commit_secret = path.tree, path.commit_secret
        secret = msgspec.structs.replace(path, path_secrets=step.path_secrets(path.path_secrets))
        provisional = proposed.provisional(tree.tree_hash).encode()
        update_path = step.path(secret.encrypt(provisional, proposed.joiners, counting_entropy("path")))
    items = tuple(each.proposal if each.reference is None else ProposalRef(each.reference) for each in sent)
    commit = step.commit(Commit(items, update_path))
    content = FramedContent(epoch.group_id, epoch.number, committer, b"", commit)
    content = msgspec.structs.replace(content, **step.content)
    signed = sign_content(
        suite, signer.private, signer.public, WireFormat.PUBLIC_MESSAGE, content, epoch.context_bytes, b""
    )
    context = final_context(epoch, proposed, tree, signed)
    psks = tuple((each, b"psk " + each.encode()) for each in proposed.proposals.psks)
    secrets = scheduled(suite, context, init_secret, commit_secret, psks)
    auth = msgspec.structs.replace(signed.auth, confirmation_tag=step.tag(secrets.confirmation_tag))
    signed = msgspec.structs.replace(signed, auth=auth)
    return Forged(enveloped(epoch, signed), signed, proposed, tree, context, secrets, path)


def _applied(epoch: Epoch, sent: Sequence[SentProposal], committer: Sender) -> Proposed:
    """What the proposals make of the group, whether they may or not, as far as there is any sense in it."""
    listed = _listed(sent, epoch.context, DEFAULT_POLICY)
    removes = tuple(each for each in listed.removes if is_member(epoch.tree, each) and each != committer.index)
    applied = apply_proposals(epoch.tree, msgspec.structs.replace(listed, removes=removes))
    tree, leaf = applied.tree, LeafIndex(committer.index)
    if committer.sender_type == SenderType.NEW_MEMBER_COMMIT:
        tree, (leaf,) = tree.changed({}, (), (VACANT,))
    context = msgspec.structs.replace(epoch.context, epoch=epoch.number + 1, extensions=applied.extensions)
    return Proposed(listed, tree, context, leaf, applied.added, applied.removed, applied.updated)


def _new_path(epoch: Epoch, proposed: Proposed, leaf: LeafNode, signer: SignatureKeyPair, step: Step) -> NewPath:
    place = proposed.committer
    draft = LeafMaker(epoch, leaf, signer, NO_CHANGE).draft()

    def make(parent_hash: bytes, encryption_key: bytes) -> LeafNode:
        return msgspec.structs.replace(draft, parent_hash=parent_hash, encryption_key=encryption_key)

    path = new_path(proposed.tree, place, make, counting_entropy(("path", place, epoch.number)))
    altered = msgspec.structs.replace(path.leaf_node, **step.leaf)
    private = signer.private if step.leaf_signer is None else step.leaf_signer.signature.private
    altered = signed_leaf_node(altered, epoch.suite, private, epoch.group_id, place)
    keys = [path.tree.node(node) for node, _ in path.path]
    parents, _ = proposed.tree.path_parents(place, [each.encryption_key for each in keys if each is not None])
    return msgspec.structs.replace(path, leaf_node=altered, tree=proposed.tree.with_path(place, altered, parents))
