"""Merkle trees over the ids of a bundle's operations, in the shape of RFC 6962 §2.1.

Leaves are the ids themselves: they are hashes already, of inputs that cannot begin like a node's, and the number of
leaves is signed beside the root. A path has the siblings from the leaf up.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

_NODE: Final = b"SpacePanda crdt node\0"


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Of at least one leaf."""
    level = leaves
    while len(level) > 1:
        level = _above(level)
    return level[0]


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """What with leaf ``index`` gives the root."""
    level, path = leaves, []
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        level, index = _above(level), index // 2
    return tuple(path)


def path_length(count: int, index: int) -> int:
    """How many siblings the path of leaf ``index`` of ``count`` has."""
    length = 0
    while count > 1:
        length += (index ^ 1) < count
        count, index = (count + 1) // 2, index // 2
    return length


def root_of_path(leaf: bytes, count: int, index: int, path: Sequence[bytes]) -> bytes:
    """The root that a path of the right length leads to."""
    node, rest = leaf, iter(path)
    while count > 1:
        if (index ^ 1) < count:
            sibling = next(rest)
            node = sha256(_NODE + (sibling + node if index % 2 else node + sibling)).digest()
        count, index = (count + 1) // 2, index // 2
    return node


def _above(level: Sequence[bytes]) -> list[bytes]:
    """The nodes over pairs; who is left without a sibling moves up as it is, which gives the RFC's unbalanced tree."""
    above = [sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above
