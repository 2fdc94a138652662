"""The arithmetic of a complete binary tree laid out flat (RFC 9420 appendix C).

Leaf ``i`` is node ``2 i`` and parents stand between: a node's level is the number of ones at the end of its index, so
every relation is a few bit operations and needs no tree. Only what depends on where the tree ends takes
``leaf_count``, which is a power of two. Leaves and nodes are numbered apart, and have different types.
"""

from protocols.errors import LocalError
from protocols.mls.leaf_node import LeafIndex, NodeIndex


def node_of(leaf: LeafIndex) -> NodeIndex:
    return NodeIndex(2 * leaf)


def leaf_of(node: NodeIndex) -> LeafIndex:
    if node & 1:
        raise LocalError(f"node {node} is a parent")
    return LeafIndex(node >> 1)


def level(node: NodeIndex) -> int:
    """Leaves are at level 0; a parent is one above its children."""
    return (node ^ (node + 1)).bit_length() - 1


def root(leaf_count: int) -> NodeIndex:
    if leaf_count < 1 or leaf_count & (leaf_count - 1):
        raise LocalError(f"a tree has a power of two of leaves, not {leaf_count}")
    return NodeIndex(leaf_count - 1)


def left(node: NodeIndex) -> NodeIndex:
    return NodeIndex(node ^ (1 << (_parent_level(node) - 1)))


def right(node: NodeIndex) -> NodeIndex:
    return NodeIndex(node ^ (3 << (_parent_level(node) - 1)))


def parent(node: NodeIndex, leaf_count: int) -> NodeIndex:
    if node == root(leaf_count):
        raise LocalError(f"node {node} is the root")
    bit = 1 << level(node)
    return NodeIndex((node | bit) & ~(bit << 1))


def sibling(node: NodeIndex, leaf_count: int) -> NodeIndex:
    above = parent(node, leaf_count)
    return right(above) if node < above else left(above)


def direct_path(leaf: LeafIndex, leaf_count: int) -> tuple[NodeIndex, ...]:
    """The leaf's ancestors, its parent first and the root last (§4.1.2)."""
    top = root(leaf_count)
    node = node_of(leaf)
    path = []
    while node != top:
        node = parent(node, leaf_count)
        path.append(node)
    return tuple(path)


def copath(leaf: LeafIndex, leaf_count: int) -> tuple[NodeIndex, ...]:
    """The siblings of the leaf and of its ancestors, from the leaf upwards (§4.1.2)."""
    path = (node_of(leaf), *direct_path(leaf, leaf_count))
    return tuple(sibling(node, leaf_count) for node in path[:-1])


def common_ancestor(one: LeafIndex, other: LeafIndex) -> NodeIndex:
    """The lowest node above both, or the leaf itself if they are the same."""
    height = (one ^ other).bit_length()
    return subtree(LeafIndex(one >> height << height), height)


def subtree(first: LeafIndex, height: int) -> NodeIndex:
    """The node at level ``height`` whose leftmost leaf is ``first``."""
    return NodeIndex(2 * first + (1 << height) - 1)


def leaves_under(node: NodeIndex) -> range:
    """The leaves of the subtree below a node, or a leaf itself."""
    size = 1 << level(node)
    first = (node + 1 - size) >> 1
    return range(first, first + size)


def _parent_level(node: NodeIndex) -> int:
    height = level(node)
    if not height:
        raise LocalError(f"node {node} is a leaf")
    return height
