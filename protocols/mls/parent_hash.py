"""Parent hashes (RFC 9420 §7.9): each key on a path vouches for the one above it, up to the root.

A parent's key pair is known to all below it, and the signature that vouches for it is on a leaf. What ties them is
a chain: the leaf has the hash of its nearest ancestor on the path, which has the hash of the next one, and so on.
A hash covers the other side of the tree too, as it was when the path was made. Members who came later are not in
it: they are the parent's unmerged leaves, and taken out before hashing, at every node of that side, whether it is
blank or not.

To join is to check all of them: every key must be vouched for from exactly one node below it, in the same path,
with nothing in between. The first that is found is the only one: of two, on either side, each would have been
hashed into the other. Without unmerged leaves the sibling's hash is its tree hash, which is known; the
original hashes of the others are remembered by node and by who is left out, as parents above one another mostly
leave out the same.
"""

from bisect import bisect_left
from itertools import islice

from protocols.mls.codec import opaque
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafIndex
from protocols.mls.suite import CipherSuite
from protocols.mls.tree_math import subtree
from protocols.mls.tree_nodes import (
    Leaf,
    Node,
    Parent,
    ParentNode,
    blank_tree_hash,
    find,
    parent_tree_hash,
    resolution,
    tree_hash,
)


def parent_hash(suite: CipherSuite, parent_node: ParentNode, original_sibling_tree_hash: bytes) -> bytes:
    """``ParentHashInput``, hashed: what the next node down the path has in its ``parent_hash``."""
    return suite.hash(
        opaque(parent_node.encryption_key) + opaque(parent_node.parent_hash) + opaque(original_sibling_tree_hash)
    )


class ParentHashes:
    """The check of a whole tree."""

    __slots__ = ("_originals", "_suite")

    def __init__(self, suite: CipherSuite) -> None:
        self._suite = suite
        self._originals: dict[tuple[int, int, tuple[int, ...]], bytes] = {}

    def verify(self, node: Node | None, height: int, first: int) -> None:
        """That every parent of the subtree is vouched for from below (§7.9.2)."""
        if not isinstance(node, Parent):
            return
        below = height - 1
        middle = first + (1 << below)
        self.verify(node.left, below, first)
        self.verify(node.right, below, middle)
        parent_node = node.parent_node
        if parent_node is None:
            return
        unmerged = parent_node.unmerged_leaves
        split = bisect_left(unmerged, middle)
        left, right = (node.left, first, unmerged[:split]), (node.right, middle, unmerged[split:])
        for (child, start, merged_later), (other, other_start, left_out) in ((left, right), (right, left)):
            held = _held_hash(child, below, start, merged_later)
            if held is not None:
                original = self._original(other, below, other_start, left_out)
                if held == parent_hash(self._suite, parent_node, original):
                    return
        raise MlsError("7.9.2/parent-hash", f"nothing below node {subtree(LeafIndex(first), height)} has its hash")

    def _original(self, node: Node | None, height: int, first: int, left_out: tuple[int, ...]) -> bytes:
        """The tree hash of a subtree as if these leaves had never been added to it."""
        if not left_out:
            return tree_hash(self._suite, node, height, first)
        if not isinstance(node, Parent):
            return blank_tree_hash(self._suite, height, first)
        place = height, first, left_out
        if (known := self._originals.get(place)) is not None:
            return known
        below = height - 1
        middle = first + (1 << below)
        split = bisect_left(left_out, middle)
        parent_node = node.parent_node
        if parent_node is not None and parent_node.unmerged_leaves:
            out = frozenset(left_out)
            kept = tuple(leaf for leaf in parent_node.unmerged_leaves if leaf not in out)
            parent_node = ParentNode(parent_node.encryption_key, parent_node.parent_hash, kept)
        found = parent_tree_hash(
            self._suite,
            parent_node,
            self._original(node.left, below, first, left_out[:split]),
            self._original(node.right, below, middle, left_out[split:]),
        )
        self._originals[place] = found
        return found


def _held_hash(child: Node | None, height: int, first: int, merged_later: tuple[int, ...]) -> bytes | None:
    """The ``parent_hash`` of the one node in the child's resolution that is not an unmerged leaf of the parent.

    There is none unless all of the others are, which proves that the node and the parent were made by one path.
    """
    if child is None:
        return None
    if isinstance(child, Leaf):
        return None if merged_later else child.leaf_node.parent_hash
    if child.parent_node is not None:
        return child.parent_node.parent_hash if child.parent_node.unmerged_leaves == merged_later else None
    known = frozenset(2 * leaf for leaf in merged_later)
    # One more than may be there, so that no walk is longer than the list that the tree's maker had to send.
    resolved = tuple(islice(resolution(child, height, first), len(merged_later) + 2))
    vouching = [node for node in resolved if node not in known]
    if len(vouching) != 1 or len(resolved) != len(merged_later) + 1:
        return None
    found = find(child, height, first, vouching[0])
    if isinstance(found, Leaf):
        return found.leaf_node.parent_hash
    return found.parent_node.parent_hash if found is not None and found.parent_node is not None else None
