"""How a tree changes (RFC 9420 §7.7, §12.1.1-§12.1.3): one walk for all leaves, new nodes only where something is new.

A thousand members who are added one after the other would make the same ancestors a thousand times. Here a subtree
is given all that happens in it, and makes each of its nodes once. What came and what went is written down on the
way, for the indices of keys.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.tree_math import subtree
from protocols.mls.tree_nodes import LEAF_COUNT_MAX, Leaf, Node, Parent, ParentNode, join

Nodes: TypeAlias = Sequence[tuple[NodeIndex, LeafNode | ParentNode]]
_BLANK: Final[tuple[None, None, None]] = (None, None, None)


class Log:
    """Nodes that went and nodes that came, in this order."""

    __slots__ = ("come", "gone")

    def __init__(self) -> None:
        self.gone: Final[list[tuple[NodeIndex, LeafNode | ParentNode]]] = []
        self.come: Final[list[tuple[NodeIndex, LeafNode | ParentNode]]] = []


def truncated(root: Node | None, leaf_count: int) -> tuple[Node | None, int]:
    """Without the right half, as often as nobody is there (§7.7)."""
    while leaf_count > 1:
        if isinstance(root, Parent):
            if root.right is not None:
                break
            root = root.left
        leaf_count >>= 1
    return root, leaf_count


def replace(
    node: Node | None,
    height: int,
    first: int,
    indices: Sequence[LeafIndex],
    leaves: Mapping[LeafIndex, LeafNode | None],
    log: Log,
) -> Node | None:
    """The leaves at ``indices``, in increasing order, replaced or blanked, and all above them blanked."""
    if not isinstance(node, Parent):
        new = leaves[LeafIndex(first)]
        if node is not None:
            log.gone.append((NodeIndex(2 * first), node.leaf_node))
        if new is None:
            return None
        log.come.append((NodeIndex(2 * first), new))
        return Leaf(new)
    if node.parent_node is not None:
        log.gone.append((subtree(LeafIndex(first), height), node.parent_node))
    below = height - 1
    middle = first + (1 << below)
    split = bisect_left(indices, middle)
    left = replace(node.left, below, first, indices[:split], leaves, log) if split else node.left
    right = replace(node.right, below, middle, indices[split:], leaves, log) if split < len(indices) else node.right
    return join(left, right, None)


def fill(
    root: Node | None, leaf_count: int, leaves: Sequence[LeafNode], log: Log
) -> tuple[Node | None, int, tuple[LeafIndex, ...]]:
    """New members in the blank leaves from the left, in a tree that doubles when it is full, and where they are."""
    size = leaf_count
    while size < len(leaves) + (0 if root is None else root.member_count):
        size *= 2
    if size > LEAF_COUNT_MAX:
        raise MlsError("7.7/too-many-leaves", f"{size} leaves; at most {LEAF_COUNT_MAX}")
    while leaf_count < size:
        root = join(root, None, None)
        leaf_count *= 2
    places: list[int] = []
    root = _fill(root, leaf_count.bit_length() - 1, 0, leaves, places, 0, len(leaves))
    log.come.extend((NodeIndex(2 * place), leaf) for place, leaf in zip(places, leaves, strict=True))
    return root, leaf_count, tuple(map(LeafIndex, places))


def _fill(
    node: Node | None, height: int, first: int, leaves: Sequence[LeafNode], places: list[int], start: int, stop: int
) -> Node | None:
    """``leaves[start:stop]`` into a subtree that has room for them; ``places`` are those of the leaves before."""
    if start == stop:
        return node
    if height == 0:
        places.append(first)
        return Leaf(leaves[start])
    left, right, parent_node = (node.left, node.right, node.parent_node) if isinstance(node, Parent) else _BLANK
    below = height - 1
    room = (1 << below) - (0 if left is None else left.member_count)
    split = min(start + room, stop)
    left = _fill(left, below, first, leaves, places, start, split)
    right = _fill(right, below, first + (1 << below), leaves, places, split, stop)
    if parent_node is not None:
        # Newcomers do not know this key (§12.1.1). None is in the list already: to leave blanks what is above.
        unmerged = tuple(sorted((*parent_node.unmerged_leaves, *places[start:])))
        parent_node = ParentNode(parent_node.encryption_key, parent_node.parent_hash, unmerged)
    return join(left, right, parent_node)
