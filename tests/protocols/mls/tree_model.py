"""The ratchet tree as RFC 9420 tells it: a flat list of nodes, changed in place, one proposal after the other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from protocols.mls import tree_math
from protocols.mls.codec import opaque, optional, uint32, vector
from protocols.mls.credentials import BasicCredential
from protocols.mls.leaf_node import Capabilities, LeafIndex, LeafNode, LeafNodeSource, NodeIndex
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.suite import SUITES

SUITE = SUITES[1]


def fake_leaf(number: int, parent_hash: bytes | None = None) -> LeafNode:
    """Keys and a signature that only look the part: no two numbers have a key in common."""
    source = LeafNodeSource.UPDATE if parent_hash is None else LeafNodeSource.COMMIT
    name = b"%d" % number
    key, signature_key = b"encryption " + name, b"signature " + name
    return LeafNode(key, signature_key, BasicCredential(name), Capabilities(), source, None, parent_hash, (), b"sig")


@dataclass
class ModelTree:
    nodes: list[LeafNode | ParentNode | None] = field(default_factory=lambda: [fake_leaf(0)])

    @property
    def leaf_count(self) -> int:
        return len(self.nodes) + 1 >> 1

    def members(self) -> list[LeafIndex]:
        return [LeafIndex(index) for index in range(self.leaf_count) if self.nodes[2 * index] is not None]

    def update(self, leaf: LeafIndex, leaf_node: LeafNode | None) -> None:
        self.nodes[2 * leaf] = leaf_node
        for node in tree_math.direct_path(leaf, self.leaf_count):
            self.nodes[node] = None

    def remove(self, leaf: LeafIndex) -> None:
        self.update(leaf, None)
        while len(self.nodes) > 1 and not any(self.nodes[self.leaf_count :: 2]):
            del self.nodes[self.leaf_count - 1 :]

    def add(self, leaf_node: LeafNode) -> LeafIndex:
        if None not in self.nodes[::2]:
            self.nodes += [None] * (len(self.nodes) + 1)
        leaf = LeafIndex(self.nodes[::2].index(None))
        self.nodes[2 * leaf] = leaf_node
        for node in tree_math.direct_path(leaf, self.leaf_count):
            if isinstance(parent := self.nodes[node], ParentNode):
                unmerged = tuple(sorted((*parent.unmerged_leaves, leaf)))
                self.nodes[node] = ParentNode(parent.encryption_key, parent.parent_hash, unmerged)
        return leaf

    def path(self, leaf: LeafIndex, leaf_node: LeafNode, parents: tuple[ParentNode, ...]) -> None:
        self.update(leaf, leaf_node)
        for (node, _), parent in zip(self.filtered_direct_path(leaf), parents, strict=True):
            self.nodes[node] = parent

    def filtered_direct_path(self, leaf: LeafIndex) -> tuple[tuple[NodeIndex, NodeIndex], ...]:
        steps = zip(tree_math.direct_path(leaf, self.leaf_count), tree_math.copath(leaf, self.leaf_count), strict=True)
        return tuple((node, sibling) for node, sibling in steps if self.resolution(sibling))

    def resolution(self, node: NodeIndex) -> list[NodeIndex]:
        match self.nodes[node]:
            case ParentNode(unmerged_leaves=unmerged):
                return [node, *(NodeIndex(2 * leaf) for leaf in unmerged)]
            case None if node & 1:
                return self.resolution(tree_math.left(node)) + self.resolution(tree_math.right(node))
            case None:
                return []
            case _:
                return [node]

    def tree_hash(self, node: NodeIndex) -> bytes:
        content = self.nodes[node]
        encoded = optional(None if content is None else content.encode())
        if not node & 1:
            return SUITE.hash(b"\1" + uint32(node >> 1) + encoded)
        left, right = self.tree_hash(tree_math.left(node)), self.tree_hash(tree_math.right(node))
        return SUITE.hash(b"\2" + encoded + opaque(left) + opaque(right))

    def encode(self) -> bytes:
        last = max(index for index, node in enumerate(self.nodes) if node is not None)
        kinds = (b"\1", b"\2")
        items = [
            optional(None if node is None else kinds[index & 1] + node.encode())
            for index, node in enumerate(self.nodes[: last + 1])
        ]
        return vector(items)


@dataclass(frozen=True)
class Change:
    """One proposal list, or one path; numbers stand for members, in any range."""

    updates: tuple[int, ...] = ()
    removes: tuple[int, ...] = ()
    adds: int = 0
    path: int | None = None


_some = st.lists(st.integers(0, 40), max_size=3).map(tuple)
_changes = st.one_of(st.builds(Change, _some, _some, st.integers(0, 7)), st.builds(Change, path=st.integers(0, 40)))


def _started(count: int, committers: list[int], later: list[Change]) -> list[Change]:
    return [Change(adds=count), *(Change(path=number) for number in committers), *later]


_committers = st.lists(st.integers(0, 40), min_size=1, max_size=6)
histories = st.builds(_started, st.integers(0, 10), _committers, st.lists(_changes, max_size=12))
"""Changes of a group in which somebody has committed already, so that there are keys to lose and to vouch for."""


@dataclass
class Group:
    """Our tree and the model, told the same."""

    tree: RatchetTree = field(default_factory=lambda: RatchetTree.from_leaves(SUITE, [fake_leaf(0)]))
    model: ModelTree = field(default_factory=ModelTree)
    made: int = 0

    def run(self, history: list[Change]) -> Iterator[Change]:
        """Stops after each change."""
        for change in history:
            self.apply(change)
            yield change

    def apply(self, change: Change) -> None:
        if change.path is not None:
            self.commit(self._member(change.path))
            return
        updates = {self._member(number): self._leaf() for number in change.updates}
        removes = list(dict.fromkeys(self._member(number) for number in change.removes))
        if len(removes) == self.tree.member_count:
            removes.pop()
        adds = [self._leaf() for _ in range(change.adds)]
        self.tree, places = self.tree.changed(updates, removes, adds)
        for leaf, leaf_node in updates.items():
            self.model.update(leaf, leaf_node)
        for leaf in removes:
            self.model.remove(leaf)
        assert places == tuple(self.model.add(leaf_node) for leaf_node in adds)

    def commit(self, leaf: LeafIndex) -> None:
        keys = [self._key() for _ in self.tree.filtered_direct_path(leaf)]
        parents, parent_hash = self.tree.path_parents(leaf, keys)
        leaf_node = self._leaf(parent_hash)
        self.tree = self.tree.with_path(leaf, leaf_node, parents)
        self.model.path(leaf, leaf_node, parents)

    def _member(self, number: int) -> LeafIndex:
        members = self.model.members()
        return members[number % len(members)]

    def _key(self) -> bytes:
        self.made += 1
        return b"parent %d" % self.made

    def _leaf(self, parent_hash: bytes | None = None) -> LeafNode:
        self.made += 1
        return fake_leaf(self.made, parent_hash)


def read_all(tree: RatchetTree) -> dict[str, Any]:
    """All that a tree can be asked about its nodes."""
    nodes = [NodeIndex(index) for index in range(2 * tree.leaf_count - 1)]
    return {
        "nodes": [tree.node(node) for node in nodes],
        "hashes": [tree.hash_of(node) for node in nodes],
        "resolutions": [list(tree.resolution(node)) for node in nodes],
        "members": [leaf for leaf, _ in tree.members()],
        "encoding": tree.encode(),
    }
