"""What one member knows of the ratchet tree beyond its public half: the private keys on its own direct path.

A member holds the key of its leaf and of those parents above it that do not list it as unmerged (RFC 9420 §4.2,
the tree invariant). Which they are follows from the public tree, so what to erase does too: a key is kept as
long as its parent is there and nobody has put another key in its place, and ``TreePrivate`` is a value, so that
a staged commit can have the keys of the next epoch while the old ones are still in use. Dropping the old value
erases what it had and the new one has not.
"""

from collections.abc import Mapping, Sequence

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, opaque, uint32, vector
from protocols.mls.leaf_node import LeafIndex, NodeIndex
from protocols.mls.ratchet_tree import RatchetTree
from protocols.mls.tree_math import level, node_of


class TreePrivate(msgspec.Struct, frozen=True, gc=False):
    """The private keys of the member at ``leaf_index``."""

    leaf_index: LeafIndex
    leaf_private: bytes
    parents: Mapping[NodeIndex, bytes]
    """From the leaf upwards, of nodes that are not blank."""

    def __repr__(self) -> str:
        return f"TreePrivate(leaf {self.leaf_index}, parents {[*self.parents]})"

    def key(self, node: NodeIndex) -> bytes | None:
        """The private key of a node, if it is held."""
        return self.leaf_private if node == node_of(self.leaf_index) else self.parents.get(node)

    def first_held(self, nodes: Sequence[NodeIndex]) -> tuple[int, bytes]:
        """Where in ``nodes`` the first stands whose private key is held, and the key.

        Raises:
            LocalError: none is held.
        """
        held = {node_of(self.leaf_index): self.leaf_private, **self.parents}
        for position, node in enumerate(nodes):
            if node in held:
                return position, held[node]
        raise LocalError(f"leaf {self.leaf_index} holds the key of none of the {len(nodes)} nodes of a resolution")

    # -- the next one ---------------------------------------------------------------------------------------

    def with_leaf_key(self, leaf_private: bytes) -> "TreePrivate":
        """After our Update proposal was committed (§12.1.2): the tree has blanked all above."""
        return TreePrivate(self.leaf_index, leaf_private, {})

    def pruned(self, tree: RatchetTree) -> "TreePrivate":
        """Without the keys of parents that ``tree``, which has this epoch's proposals applied, has blanked.

        Proposals only take a parent's key away; only a path gives it another.
        """
        parents = {node: key for node, key in self.parents.items() if _is_parent(tree, node)}
        return self if len(parents) == len(self.parents) else TreePrivate(self.leaf_index, self.leaf_private, parents)

    def updated(self, tree: RatchetTree, fresh: Mapping[NodeIndex, bytes]) -> "TreePrivate":
        """After a path, with the ``fresh`` keys from where it meets ours: what is left of the old ones lies below."""
        lowest = min(map(level, fresh))
        kept = {node: key for node, key in self.parents.items() if level(node) < lowest and _is_parent(tree, node)}
        return TreePrivate(self.leaf_index, self.leaf_private, kept | dict(fresh))

    # -- against a tree -------------------------------------------------------------------------------------

    def missing(self, tree: RatchetTree) -> tuple[NodeIndex, ...]:
        """Parents whose key the tree takes us to have and we have not. While there are any, paths may be lost on us."""
        leaf = self.leaf_index
        parents = [(node, tree.parent(node)) for node in tree.direct_path(leaf)]
        return tuple(
            node
            for node, parent in parents
            if parent is not None and leaf not in parent.unmerged_leaves and node not in self.parents
        )

    def check(self, tree: RatchetTree) -> None:
        """Every key belongs to its node of ``tree``, and none is missing.

        Raises:
            LocalError: this is not the tree that goes with these keys.
        """
        for node in (node_of(self.leaf_index), *self.parents):
            there = tree.node(node) if _is_inside(tree, node) else None
            private = self.key(node)
            if there is None or private is None or tree.suite.kem.public(private) != there.encryption_key:
                raise LocalError(f"the private key held for node {node} is not that of the tree's")
        if missing := self.missing(tree):
            raise LocalError(f"no private key for nodes {missing}")

    # -- state ----------------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        parents = vector(uint32(node) + opaque(key) for node, key in self.parents.items())
        return uint32(self.leaf_index) + opaque(self.leaf_private) + parents

    @classmethod
    def read(cls, reader: Reader) -> "TreePrivate":
        leaf_index, leaf_private = LeafIndex(reader.uint32()), reader.opaque()
        return cls(leaf_index, leaf_private, dict(reader.vector(_read_parent)))


def _read_parent(reader: Reader) -> tuple[NodeIndex, bytes]:
    return NodeIndex(reader.uint32()), reader.opaque()


def _is_inside(tree: RatchetTree, node: NodeIndex) -> bool:
    """A tree that lost members may have become shorter."""
    return node < 2 * tree.leaf_count - 1


def _is_parent(tree: RatchetTree, node: NodeIndex) -> bool:
    return _is_inside(tree, node) and tree.parent(node) is not None
