"""TreeKEM (RFC 9420 §7.4-7.6): fresh keys from a leaf to the root, which everybody but the removed can follow.

The committer draws one secret and derives from it, one after the other, a ``path_secret`` for each node of its
filtered direct path and, one step further, the ``commit_secret``. Each path secret is encrypted to the subtree
that hangs off the path there. Whoever opens one derives the rest, and checks that the public keys are those sent.

The work comes in halves, because the encryption is bound to a group context that has the hash of the tree
with the new path in it (§12.4.1):

=========  ================================  ================================================
committer  ``new_path``: keys, the new tree  ``NewPath.encrypt``: what goes on the wire
member     ``apply_path``: the new tree      ``open_path``: those of its keys that are for us
=========  ================================  ================================================

Between the two the caller puts the new tree's hash into the context, whose transcript hash is still the old one.

Nobody can check the ciphertexts meant for others, so a committer can lock out part of a group without the rest
noticing. ``open_path`` then names it as the sender's fault; to get back in is beyond this protocol.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeAlias

import msgspec

from protocols.errors import LocalError
from protocols.mls.chunks import Run, in_chunks
from protocols.mls.codec import Reader
from protocols.mls.errors import MlsError
from protocols.mls.kem import drawn
from protocols.mls.leaf_node import LeafIndex, LeafNode, LeafNodeSource, NodeIndex
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.suite import CipherSuite, Entropy
from protocols.mls.tree_math import leaves_under, node_of
from protocols.mls.tree_private import TreePrivate
from protocols.mls.update_path import HpkeCiphertext, UpdatePath, UpdatePathNode

MakeLeaf: TypeAlias = Callable[[bytes, bytes], LeafNode]
"""From a parent hash and an encryption key, the signed leaf of source ``commit`` that has them."""

Path: TypeAlias = tuple[tuple[NodeIndex, NodeIndex], ...]
"""A filtered direct path (§4.1.2): each node and that child of it which is on the copath, from the leaf upwards."""


_LABEL: Final = b"UpdatePathNode"


# -- the committer ------------------------------------------------------------------------------------------


class NewPath(msgspec.Struct, frozen=True, gc=False):
    """A path of our own. It has all of its secrets: drop it when the commit and its Welcomes are sealed."""

    tree: RatchetTree
    """With this path in it."""
    private: TreePrivate
    commit_secret: bytes
    leaf_node: LeafNode
    path: Path
    path_secrets: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"NewPath(leaf {self.private.leaf_index}, nodes {[node for node, _ in self.path]})"

    def encrypt(self, context: bytes, exclude: Collection[LeafIndex], entropy: Entropy, run: Run = map) -> UpdatePath:
        """The path for the wire, under the encoded GroupContext of the module's opening.

        Members added with the path are left out: they have it from the Welcome (§12.4.1). What is drawn does not
        depend on ``run``.
        """
        tree, suite = self.tree, self.tree.suite
        receivers = _receivers(tree, self.path, exclude)
        size = suite.kem.private_size
        jobs = [
            (_encryption_key(tree, node), path_secret, drawn(entropy, size))
            for nodes, path_secret in zip(receivers, self.path_secrets, strict=True)
            for node in nodes
        ]
        seal = suite.encryptor(_LABEL, context).seal

        def seal_all(jobs: Sequence[tuple[bytes, bytes, bytes]]) -> list[tuple[bytes, bytes]]:
            return [seal(public, path_secret, Reader(ikm).take) for public, path_secret, ikm in jobs]

        sealed = in_chunks(run, seal_all, jobs)
        nodes = tuple(
            UpdatePathNode(_encryption_key(tree, node), tuple(HpkeCiphertext(*next(sealed)) for _ in nodes))
            for (node, _), nodes in zip(self.path, receivers, strict=True)
        )
        return UpdatePath(self.leaf_node, nodes)

    def path_secret_for(self, joiner: LeafIndex) -> bytes:
        """What the Welcome tells a new member: the secret of the lowest node above both of us (§12.4.3.1)."""
        return self.path_secrets[_meeting(self.path, joiner)]


def new_path(tree: RatchetTree, leaf_index: LeafIndex, make_leaf: MakeLeaf, entropy: Entropy) -> NewPath:
    """Fresh keys for the member at ``leaf_index`` of ``tree``, which has the commit's proposals applied.

    Who joins by this commit has a place in the tree already, with any leaf: the path replaces it.

    Raises:
        LocalError: ``make_leaf`` did not put in what it was given.
    """
    suite = tree.suite
    path = tree.filtered_direct_path(leaf_index)
    leaf_private, leaf_public = suite.kem.derive_key_pair(suite.kem.draw_ikm(entropy))
    path_secret = drawn(entropy, suite.hash_size)
    path_secrets, keys, publics = [], {}, []
    for node, _ in path:
        path_secrets.append(path_secret)
        keys[node], public = _key_pair(suite, path_secret)
        publics.append(public)
        path_secret = suite.derive_secret(path_secret, b"path")

    parents, parent_hash = tree.path_parents(leaf_index, publics)
    leaf_node = make_leaf(parent_hash, leaf_public)
    if (leaf_node.source, leaf_node.parent_hash) != (LeafNodeSource.COMMIT, parent_hash):
        raise LocalError("the leaf is not of source commit, with the parent hash given")
    if leaf_node.encryption_key != leaf_public:
        raise LocalError("the leaf does not have the encryption key given")
    return NewPath(
        tree.with_path(leaf_index, leaf_node, parents),
        TreePrivate(leaf_index, leaf_private, keys),
        # One step beyond the last node (§8). Alone in a group there is no node: it is what was drawn.
        path_secret,
        leaf_node,
        path,
        tuple(path_secrets),
    )


# -- the other members --------------------------------------------------------------------------------------


def apply_path(
    tree: RatchetTree, sender: LeafIndex, update_path: UpdatePath, exclude: Collection[LeafIndex] = ()
) -> RatchetTree:
    """``tree``, which has the commit's proposals applied, with a path of ``sender``'s in it (§7.5, §12.4.2).

    ``exclude`` are the leaves that those proposals added. The rest of the leaf (its signature, credential,
    capabilities) is not looked at here.

    Raises:
        MlsError: of sections 5.1, 7.3, 7.6 and 7.9.
        LocalError: nobody is at ``sender``.
    """
    suite, leaf_node = tree.suite, update_path.leaf_node
    old = tree.leaf(sender)
    if old is None:
        raise LocalError(f"leaf {sender} is blank")
    if old.encryption_key == leaf_node.encryption_key:
        raise MlsError("7.3/unchanged-encryption-key", f"leaf {sender}")
    nodes, path = update_path.nodes, tree.filtered_direct_path(sender)
    if len(nodes) != len(path):
        raise MlsError("7.6/path-length", f"{len(nodes)} nodes for a filtered direct path of {len(path)}")
    wanted = [tree.resolution_size(child) - sum(leaf in leaves_under(child) for leaf in exclude) for _, child in path]
    if (counts := [len(each.encrypted_path_secret) for each in nodes]) != wanted:
        raise MlsError("7.6/ciphertext-count", f"{counts} ciphertexts for resolutions of {wanted}")

    publics = [each.encryption_key for each in nodes]
    new_keys = [leaf_node.encryption_key, *publics]
    if len(frozenset(new_keys)) != len(new_keys) or any(map(tree.has_encryption_key, new_keys)):
        raise MlsError("7.3/duplicate-encryption-key", f"in the path of leaf {sender}")
    for public in new_keys:
        suite.check_public(public)
    parents, parent_hash = tree.path_parents(sender, publics)
    if leaf_node.parent_hash != parent_hash:
        raise MlsError("7.9/leaf-parent-hash", f"leaf {sender}")
    return tree.with_path(sender, leaf_node, parents)


def open_path(
    tree: RatchetTree,
    private: TreePrivate,
    sender: LeafIndex,
    update_path: UpdatePath,
    context: bytes,
    exclude: Collection[LeafIndex] = (),
) -> tuple[TreePrivate, bytes]:
    """The keys that the path gives to the member of ``private``, and the commit secret.

    ``tree`` is what ``apply_path`` returned; ``context`` the encoded GroupContext of the module's opening. The
    subtrees off the path are as they were, so the tree from before is not needed.

    Raises:
        MlsError: ``5.1.3/decrypt`` or ``7.5/path-secret-mismatch``: the sender did not encrypt the path to us.
        LocalError: we are the sender, or ``private`` does not belong to this tree.
    """
    path = tree.filtered_direct_path(sender)
    meeting = _meeting(path, private.leaf_index)
    [receivers] = _receivers(tree, path[meeting : meeting + 1], exclude)
    if len(update_path.nodes) != len(path) or len(update_path.nodes[meeting].encrypted_path_secret) != len(receivers):
        raise LocalError("the path was not applied to this tree")
    position, key = private.first_held(receivers)
    sealed = update_path.nodes[meeting].encrypted_path_secret[position]
    path_secret = tree.suite.decrypt_with_label(
        key, _encryption_key(tree, receivers[position]), _LABEL, context, sealed.kem_output, sealed.ciphertext
    )
    keys, commit_secret = _climb(tree, path[meeting:], path_secret, "7.5/path-secret-mismatch")
    return private.updated(tree, keys), commit_secret


def private_from_welcome(
    tree: RatchetTree, leaf_index: LeafIndex, leaf_private: bytes, path_secret: bytes | None, sender: LeafIndex
) -> TreePrivate:
    """The keys of a new member at ``leaf_index``, whose Welcome came with a path secret of ``sender``'s or with none.

    Raises:
        MlsError: of section 12.4.3.1. The tree must be such that every later path can be opened.
        LocalError: ``leaf_private`` is not the leaf's own.
    """
    leaf = tree.leaf(leaf_index)
    if leaf is None or tree.suite.kem.public(leaf_private) != leaf.encryption_key:
        raise LocalError(f"the private key is not that of leaf {leaf_index}")
    keys: dict[NodeIndex, bytes] = {}
    if path_secret is not None:
        if sender == leaf_index:
            raise MlsError("12.4.3.1/path-secret-mismatch", "from a sender who is the new member")
        path = tree.filtered_direct_path(sender)
        keys, _ = _climb(tree, path[_meeting(path, leaf_index) :], path_secret, "12.4.3.1/path-secret-mismatch")
    private = TreePrivate(leaf_index, leaf_private, keys)
    if missing := private.missing(tree):
        raise MlsError("12.4.3.1/path-secret-missing", f"for nodes {missing}")
    return private


# -- what they share ----------------------------------------------------------------------------------------


def _key_pair(suite: CipherSuite, path_secret: bytes) -> tuple[bytes, bytes]:
    """A node's private and public key (§7.4)."""
    return suite.kem.derive_key_pair(suite.derive_secret(path_secret, b"node"))


def _climb(tree: RatchetTree, path: Path, path_secret: bytes, rule: str) -> tuple[dict[NodeIndex, bytes], bytes]:
    """The private keys of ``path``, whose first node has ``path_secret``, and the secret one step beyond."""
    suite = tree.suite
    keys = {}
    for node, _ in path:
        parent = tree.parent(node)
        keys[node], public = _key_pair(suite, path_secret)
        if parent is None or public != parent.encryption_key:
            raise MlsError(rule, f"at node {node}")
        path_secret = suite.derive_secret(path_secret, b"path")
    return keys, path_secret


def _receivers(tree: RatchetTree, path: Path, exclude: Collection[LeafIndex]) -> list[tuple[NodeIndex, ...]]:
    """Whom each path secret is encrypted to: the copath child's resolution, without the leaves just added (§7.6)."""
    resolutions = [tree.resolution(child) for _, child in path]
    if not exclude:
        return resolutions
    excluded = frozenset(map(node_of, exclude))
    return [tuple(node for node in resolution if node not in excluded) for resolution in resolutions]


def _meeting(path: Path, leaf: LeafIndex) -> int:
    """Where on a path the lowest node above ``leaf`` too is; the filter leaves it in as long as ``leaf`` is there."""
    for position, (_, child) in enumerate(path):
        if leaf in leaves_under(child):
            return position
    raise LocalError(f"leaf {leaf} is not off the path {[node for node, _ in path]}")


def _encryption_key(tree: RatchetTree, node: NodeIndex) -> bytes:
    """The public key of a node that is not blank."""
    there = tree.node(node)
    if there is None:
        raise LocalError(f"node {node} is blank")
    return there.encryption_key
