"""The nodes of a ratchet tree, and their hashes (RFC 9420 §7.1, §7.8).

A node object is never changed once it is made, except that it remembers what was computed from the subtree below
it; trees that differ in one leaf share all nodes but that leaf's ancestors. A node does not know its place. Whoever
walks the tree does: ``height`` levels above the leaves, ``first`` the leftmost leaf below. A subtree without
members or keys, of any size, is ``None``; its hash depends on its place only, and is remembered for all trees.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import ClassVar, Final, TypeAlias

import msgspec

from protocols.errors import LocalError
from protocols.mls.codec import Reader, opaque, uint32, uint32s
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.suite import CipherSuite
from protocols.mls.support import Support, leaf_support
from protocols.mls.tree_math import left, right, subtree

BLANK_HASHES_MAX: Final = 2**16
"""Hashes of blank subtrees that are remembered: enough for all of a tree with 32,768 blank leaves, in 20 MB."""


LEAF_COUNT_MAX: Final = 2**20
"""Leaves of a tree. A million members take 275 MB, more than the largest message read."""


class ParentNode(msgspec.Struct, frozen=True, gc=False):
    """§7.1. ``unmerged_leaves`` are the members below who do not know the private key, in increasing order."""

    encryption_key: bytes
    parent_hash: bytes
    unmerged_leaves: tuple[int, ...] = ()

    def encode(self) -> bytes:
        return opaque(self.encryption_key) + opaque(self.parent_hash) + uint32s(self.unmerged_leaves)

    @classmethod
    def read(cls, reader: Reader) -> "ParentNode":
        encryption_key, parent_hash, unmerged = reader.opaque(), reader.opaque(), reader.uint32s()
        if unmerged and any(one >= other for one, other in pairwise(unmerged)):
            raise MlsError("7.1/unmerged-leaves-order", f"unmerged leaves {unmerged[:16]}")
        return cls(encryption_key, parent_hash, unmerged)


class Leaf(msgspec.Struct, gc=False, eq=False):
    """A member's leaf."""

    leaf_node: LeafNode
    tree_hash: bytes = b""
    """Empty until it is asked for."""
    member_count: ClassVar[int] = 1
    resolution_size: ClassVar[int] = 1


class Parent(msgspec.Struct, gc=False, eq=False):
    """A parent below which something is not blank; ``parent_node`` is ``None`` if itself is blank."""

    left: "Node | None"
    right: "Node | None"
    parent_node: ParentNode | None
    member_count: int
    resolution_size: int
    tree_hash: bytes = b""
    support: Support | None = None


Node: TypeAlias = Leaf | Parent


def join(one: Node | None, other: Node | None, parent_node: ParentNode | None) -> Parent | None:
    """The parent of two subtrees, left and right."""
    if one is None and other is None and parent_node is None:
        return None
    members = (0 if one is None else one.member_count) + (0 if other is None else other.member_count)
    if parent_node is not None:
        size = 1 + len(parent_node.unmerged_leaves)
    else:
        size = (0 if one is None else one.resolution_size) + (0 if other is None else other.resolution_size)
    return Parent(one, other, parent_node, members, size)


def build(leaves: Sequence[Leaf | None], inner: Sequence[ParentNode | None]) -> tuple[Node | None, int]:
    """The smallest tree with these leaves, and how many it has room for; ``inner[i]`` is node ``2 i + 1``.

    Level by level: no recursion, and no look-up of a place.
    """
    level: list[Node | None] = [*leaves]
    size = 1
    while size < len(leaves):
        above = inner[size - 1 :: 2 * size]
        pairs = zip_longest(level[::2], level[1::2])
        level = [join(one, other, node) for (one, other), node in zip_longest(pairs, above[: len(level) + 1 >> 1])]
        size *= 2
    return level[0], size


# -- tree hashes (§7.8) -------------------------------------------------------------------------------------


def tree_hash(suite: CipherSuite, node: Node | None, height: int, first: int) -> bytes:
    if node is None:
        return blank_tree_hash(suite, height, first)
    if known := node.tree_hash:
        return known
    if isinstance(node, Leaf):
        found = leaf_tree_hash(suite, first, node.leaf_node.encode())
    else:
        below = height - 1
        found = parent_tree_hash(
            suite,
            node.parent_node,
            tree_hash(suite, node.left, below, first),
            tree_hash(suite, node.right, below, first + (1 << below)),
        )
    node.tree_hash = found
    return found


def leaf_tree_hash(suite: CipherSuite, index: int, encoded: bytes) -> bytes:
    """``TreeHashInput`` of a leaf that is not blank, hashed."""
    return suite.hash(b"\1" + uint32(index) + b"\1" + encoded)


def parent_tree_hash(suite: CipherSuite, parent_node: ParentNode | None, one: bytes, other: bytes) -> bytes:
    """``TreeHashInput`` of a parent, hashed."""
    head = b"\2\0" if parent_node is None else b"\2\1" + parent_node.encode()
    return suite.hash(head + opaque(one) + opaque(other))


@lru_cache(maxsize=BLANK_HASHES_MAX)
def blank_tree_hash(suite: CipherSuite, height: int, first: int) -> bytes:
    if height == 0:
        return suite.hash(b"\1" + uint32(first) + b"\0")
    below = height - 1
    halves = blank_tree_hash(suite, below, first), blank_tree_hash(suite, below, first + (1 << below))
    return parent_tree_hash(suite, None, *halves)


# -- what is below a node -----------------------------------------------------------------------------------


def find(node: Node | None, height: int, first: int, wanted: NodeIndex) -> Node | None:
    """The node with an index that is in this subtree."""
    place = subtree(LeafIndex(first), height)
    while node is not None and place != wanted:
        if isinstance(node, Leaf):
            raise LocalError(f"node {wanted} is not below node {place}")
        if wanted < place:
            node, place = node.left, left(place)
        else:
            node, place = node.right, right(place)
    return node


def resolution(node: Node | None, height: int, first: int) -> Iterator[NodeIndex]:
    """The nodes whose keys reach exactly the members below (§4.1.1), from left to right."""
    waiting = [(node, height, first)]
    while waiting:
        node, height, first = waiting.pop()
        while isinstance(node, Parent) and node.parent_node is None:
            height -= 1
            waiting.append((node.right, height, first + (1 << height)))
            node = node.left
        if isinstance(node, Parent) and node.parent_node is not None:
            yield subtree(LeafIndex(first), height)
            for leaf in node.parent_node.unmerged_leaves:
                yield NodeIndex(2 * leaf)
        elif node is not None:
            yield NodeIndex(2 * first)


def nodes(node: Node | None, height: int, first: int) -> Iterator[tuple[NodeIndex, LeafNode | ParentNode]]:
    """Every node that is not blank, each parent before those below it, leaves from left to right."""
    waiting = [(node, height, first)]
    while waiting:
        node, height, first = waiting.pop()
        while isinstance(node, Parent):
            if node.parent_node is not None:
                yield subtree(LeafIndex(first), height), node.parent_node
            height -= 1
            waiting.append((node.right, height, first + (1 << height)))
            node = node.left
        if node is not None:
            yield NodeIndex(2 * first), node.leaf_node


def support(node: Node) -> Support:
    """What all members below support."""
    if isinstance(node, Leaf):
        return leaf_support(node.leaf_node)
    if node.support is None:
        found = Support()
        for child in (node.left, node.right):
            if child is not None:
                found = found.joined(support(child))
        node.support = found
    return node.support
