"""What Mallory shows to those who are outside: group infos with trees, and Welcomes (RFC 9420 §12.4.3).

A joiner believes nothing but signatures and hashes. So they are right here: whatever is changed in the tree, the
tree hash follows it, and the signature and the confirmation tag follow that.
"""

from collections.abc import Iterator

import msgspec

from protocols.mls.client import KeyPackageBundle
from protocols.mls.codec import vector
from protocols.mls.errors import MlsError
from protocols.mls.extensions import Extension, Extensions, ExtensionType, external_pub_extension
from protocols.mls.framing import member
from protocols.mls.group_context import GroupContext
from protocols.mls.key_schedule import (
    confirmation_tag,
    epoch_secrets,
    external_key_pair,
    welcome_key_nonce,
    welcome_secret,
)
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.proposal_rules import SentProposal
from protocols.mls.proposals import Add
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.tree_nodes import ParentNode
from protocols.mls.update_path import HpkeCiphertext
from protocols.mls.welcome import GROUP_INFO_LABEL, EncryptedGroupSecrets, GroupInfo, GroupSecrets, Welcome
from tests.fuzz.forging import Mallory
from tests.fuzz.world import MALLORY


class Nodes(msgspec.Struct, frozen=True):
    """A tree as a list of nodes, so that it can be changed like anything else."""

    nodes: tuple[LeafNode | ParentNode | None, ...]

    @classmethod
    def of(cls, tree: RatchetTree) -> "Nodes":
        nodes = [tree.node(NodeIndex(at)) for at in range(2 * tree.leaf_count - 1)]
        while nodes[-1] is None:
            nodes.pop()
        return cls(tuple(nodes))

    def encode(self) -> bytes:
        return vector(self._encoded())

    def _encoded(self) -> Iterator[bytes]:
        for node in self.nodes:
            kind = b"\0" if node is None else b"\1\1" if isinstance(node, LeafNode) else b"\1\2"
            yield kind if node is None else kind + node.encode()


def group_info(mallory: Mallory) -> GroupInfo:
    """Of the epoch in which she is, open to external commits."""
    epoch = mallory.epoch
    _, public = external_key_pair(epoch.suite, epoch.secrets.external_secret)
    pub = external_pub_extension(public)
    return _signed(mallory, _altered(mallory, epoch.context, epoch.tree, epoch.confirmation_tag, (pub,)), epoch.tree)


def welcome(mallory: Mallory, bundle: KeyPackageBundle) -> Welcome:
    """Into the epoch of a commit that adds the owner of this key package, or into one that is like it."""
    suite, draws = mallory.epoch.suite, mallory.draws
    sent = [SentProposal(Add(bundle.key_package), member(MALLORY), None)]
    own_leaf, init_secret = mallory.epoch.own_leaf_node, mallory.epoch.secrets.init_secret
    forged = mallory.committed(
        member(MALLORY), sent, own_leaf, mallory.signer, init_secret, with_path=not draws.chance(4)
    )
    joiner, psk = forged.secrets.joiner_secret, forged.secrets.psk_secret
    info = _altered(mallory, forged.context, forged.tree, forged.secrets.confirmation_tag, ())
    if not draws.chance(8):
        secrets = epoch_secrets(suite, joiner, psk, info.group_context.encode())
        tag = confirmation_tag(suite, secrets.confirmation_key, info.group_context.confirmed_transcript_hash)
        info = msgspec.structs.replace(info, confirmation_tag=tag)
    encoded = _signed(mallory, info, forged.tree).encode()
    key, nonce = welcome_key_nonce(suite, welcome_secret(suite, joiner, psk))
    encrypted = suite.aead(key).encrypt(nonce, draws.altered(encoded) if draws.chance(16) else encoded, b"")

    path_secret = None
    if forged.path is not None and forged.proposed.joiners:
        path_secret = forged.path.path_secret_for(forged.proposed.joiners[0])
    group_secrets = GroupSecrets(joiner, path_secret, forged.proposed.proposals.psks)
    if draws.chance(3):
        group_secrets = mallory.changed(group_secrets)
    plaintext = draws.altered(group_secrets.encode()) if draws.chance(16) else group_secrets.encode()
    sealed = suite.encrypt_with_label(bundle.key_package.init_key, b"Welcome", encrypted, plaintext, mallory.entropy)
    reference = suite.key_package_ref(bundle.key_package.encode())
    made = Welcome(suite.id, (EncryptedGroupSecrets(reference, HpkeCiphertext(*sealed)),), encrypted)
    changed: Welcome = mallory.changed(made) if draws.chance(8) else made
    return changed


def _altered(mallory: Mallory, context: GroupContext, tree: RatchetTree, tag: bytes, more: Extensions) -> GroupInfo:
    encoded = tree.encode()
    if mallory.draws.chance(2):
        encoded, context = _altered_tree(mallory, tree, context)
    extensions = (Extension(ExtensionType.RATCHET_TREE, encoded), *more)
    info = GroupInfo(context, extensions, tag, MALLORY, b"")
    if mallory.draws.chance(2):
        info = mallory.changed(info)
    return msgspec.structs.replace(info, signature=b"")


def _altered_tree(mallory: Mallory, tree: RatchetTree, context: GroupContext) -> tuple[bytes, GroupContext]:
    """The tree's encoding and the context with its hash. Her own leaf is signed again, the others' stay theirs
    or, as often, are signed again by them: those who conspire with her."""
    nodes: Nodes = mallory.changed(Nodes.of(tree))
    conspired = mallory.draws.chance(2)
    signed = (
        mallory.signed_leaf(node, at >> 1) if isinstance(node, LeafNode) and (conspired or at == 2 * MALLORY) else node
        for at, node in enumerate(nodes.nodes)
    )
    encoded = Nodes(tuple(signed)).encode() if conspired else nodes.encode()
    try:
        changed = RatchetTree.decode(tree.suite, encoded)
    except MlsError:
        return encoded, context
    return encoded, msgspec.structs.replace(context, tree_hash=changed.tree_hash)


def _signed(mallory: Mallory, info: GroupInfo, tree: RatchetTree) -> GroupInfo:
    """By the member that it names as its signer, if there is one."""
    leaf = tree.leaf(LeafIndex(info.signer)) if info.signer < tree.leaf_count else None
    key = mallory.signer if leaf is None else mallory.world.keys.get(leaf.signature_key, mallory.signer)
    content = info.to_be_signed()
    signature = mallory.epoch.suite.sign_with_label(key.private, key.public, GROUP_INFO_LABEL, content)
    return msgspec.structs.replace(info, signature=signature)
