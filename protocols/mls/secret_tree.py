"""The secret tree (RFC 9420 §9.2): from one secret of the epoch to one for each leaf, and no further than asked."""

from typing import Final, NamedTuple

from protocols.errors import LocalError
from protocols.mls.suite import CipherSuite

LEAVES_MAX: Final = 2**31
"""So that the number of a node fits a ``uint32``."""


class Split(NamedTuple):
    """The way down to a leaf: which node is erased for it, and what is left beside the way."""

    top: int
    beside: tuple[tuple[int, bytes], ...]
    leaf_secret: bytes

    def __repr__(self) -> str:
        return f"Split(of node {self.top})"


class SecretTree:
    """One secret for each leaf, derived when it is asked for; a node's secret is erased when its children's exist.

    Nodes are numbered as in a heap: the root is 1 and the children of ``n`` are ``2n`` and ``2n + 1``, so leaf
    ``i`` is ``leaf_count + i`` and a parent is half of its child.
    """

    __slots__ = ("_nodes", "_suite", "leaf_count")

    def __init__(self, suite: CipherSuite, leaf_count: int, nodes: dict[int, bytes]) -> None:
        if leaf_count < 1 or leaf_count & (leaf_count - 1) or leaf_count > LEAVES_MAX:
            raise LocalError(f"a tree of {leaf_count} leaves; they are a power of two, at most {LEAVES_MAX}")
        self._suite: Final = suite
        self._nodes: Final = nodes
        self.leaf_count: Final = leaf_count

    def split(self, leaf: int) -> Split:
        """The secret of a leaf that was not taken yet; changes nothing."""
        expand, size, nodes = self._suite.expand_with_label, self._suite.hash_size, self._nodes
        top = target = self.leaf_count + leaf
        while top not in nodes:
            top >>= 1
            if not top:
                raise LocalError(f"the secret of leaf {leaf} was taken already")
        secret = nodes[top]
        beside = []
        for height in range(target.bit_length() - top.bit_length() - 1, -1, -1):
            node = target >> height
            left, right = (expand(secret, b"tree", side, size) for side in (b"left", b"right"))
            secret, other = (right, left) if node & 1 else (left, right)
            beside.append((node ^ 1, other))
        return Split(top, tuple(beside), secret)

    def take(self, split: Split) -> bool:
        """Erase what a split used up; false if its node is gone, as a split from another leaf has used it."""
        if self._nodes.pop(split.top, None) is None:
            return False
        self._nodes.update(split.beside)
        return True

    def nodes(self) -> list[tuple[int, bytes]]:
        """Every secret that is left."""
        return sorted(self._nodes.items())
