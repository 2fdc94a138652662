"""The ratchet tree (RFC 9420 §4, §7.7, §7.8) as a value: a group of ten thousand changes in a few nodes a commit.

Every epoch has its tree, several may be kept, and a commit that is looked at and not adopted must leave no trace. So
a tree is never changed: a new one is made of new nodes from the changed leaves to the root, and shares
all others together with their hashes. Copying the tree costs as much as the group is large; a flat array with an
undo log is as fast, but then two commits on one parent cannot both be looked at.

Indices that a peer sent and that are beyond the tree are nobody's: ``leaf`` says ``None``. Changing a leaf where
nobody is, is our caller's mistake.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from protocols.errors import LocalError
from protocols.mls import tree_math, tree_nodes
from protocols.mls.chunks import Run
from protocols.mls.errors import MlsError
from protocols.mls.key_index import KeyIndex, Place
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.parent_hash import ParentHashes, parent_hash
from protocols.mls.suite import CipherSuite
from protocols.mls.support import Support
from protocols.mls.tree_changes import Log, Nodes, fill, replace, truncated
from protocols.mls.tree_encoding import decode_tree, encode_tree
from protocols.mls.tree_nodes import LEAF_COUNT_MAX, Leaf, Node, Parent, ParentNode, join
from protocols.mls.tree_validation import validate_unmerged_leaves, verify_leaf_signatures, verify_parent_keys

__all__ = ["LEAF_COUNT_MAX", "ParentNode", "RatchetTree"]


class RatchetTree:
    """Leaves in a complete binary tree, members and blanks; built by ``from_leaves`` or ``decode``."""

    __slots__ = ("_indices", "_root", "leaf_count", "suite")

    def __init__(
        self, suite: CipherSuite, root: Node | None, leaf_count: int, indices: tuple[KeyIndex, KeyIndex] | None = None
    ) -> None:
        self.suite: Final = suite
        self.leaf_count: Final = leaf_count
        """Places for members, a power of two."""
        self._root: Final = root
        self._indices = indices
        """Of encryption and of signature keys; made when somebody asks, then handed on with the changes."""

    @classmethod
    def from_leaves(cls, suite: CipherSuite, leaves: Sequence[LeafNode | None]) -> "RatchetTree":
        """Members and blanks in their places, all parents blank. A new group is its creator's leaf."""
        if not 0 < len(leaves) <= LEAF_COUNT_MAX:
            raise LocalError(f"a tree of {len(leaves)} leaves, not 1 to {LEAF_COUNT_MAX}")
        places = [None if leaf is None else Leaf(leaf) for leaf in leaves]
        return cls(suite, *truncated(*tree_nodes.build(places, ())))

    # -- who is where -----------------------------------------------------------------------------------------

    @property
    def member_count(self) -> int:
        return 0 if self._root is None else self._root.member_count

    @property
    def _height(self) -> int:
        return self.leaf_count.bit_length() - 1

    def leaf(self, index: LeafIndex) -> LeafNode | None:
        """The member there, if there is one."""
        if index < 0:
            raise LocalError(f"leaf {index}")
        if index >= self.leaf_count:
            return None
        node, height = self._root, self._height
        while isinstance(node, Parent):
            height -= 1
            node = node.right if index >> height & 1 else node.left
        return None if node is None else node.leaf_node

    def parent(self, node: NodeIndex) -> ParentNode | None:
        """The parent node there, if it is not blank."""
        found = self._find(node)
        return found.parent_node if isinstance(found, Parent) else None

    def node(self, node: NodeIndex) -> LeafNode | ParentNode | None:
        found = self._find(node)
        return found.leaf_node if isinstance(found, Leaf) else None if found is None else found.parent_node

    def members(self) -> Iterator[tuple[LeafIndex, LeafNode]]:
        """From left to right."""
        nodes = tree_nodes.nodes(self._root, self._height, 0)
        return ((LeafIndex(index >> 1), node) for index, node in nodes if isinstance(node, LeafNode))

    def leftmost_blank(self) -> LeafIndex:
        """Where the next member goes (§12.1.1): ``leaf_count`` if the tree is full."""
        node, height, first = self._root, self._height, 0
        if node is not None and node.member_count == self.leaf_count:
            return LeafIndex(self.leaf_count)
        while isinstance(node, Parent):
            height -= 1
            if node.left is not None and node.left.member_count == 1 << height:
                node, first = node.right, first + (1 << height)
            else:
                node = node.left
        return LeafIndex(first)

    @property
    def support(self) -> Support:
        """What all members support, and what is in use."""
        return Support() if self._root is None else tree_nodes.support(self._root)

    def has_encryption_key(self, key: bytes) -> bool:
        """Whether a leaf or a parent has it."""
        return bool(self._key_indices()[0].places(key))

    def leaf_of_encryption_key(self, key: bytes) -> LeafIndex | None:
        return next((LeafIndex(node >> 1) for node in self._key_indices()[0].places(key) if not node & 1), None)

    def leaf_of_signature_key(self, key: bytes) -> LeafIndex | None:
        return next((LeafIndex(node >> 1) for node in self._key_indices()[1].places(key)), None)

    # -- hashes ---------------------------------------------------------------------------------------------

    @property
    def tree_hash(self) -> bytes:
        """Of the root (§7.8)."""
        return tree_nodes.tree_hash(self.suite, self._root, self._height, 0)

    def hash_of(self, node: NodeIndex) -> bytes:
        found = self._find(node)
        return tree_nodes.tree_hash(self.suite, found, tree_math.level(node), tree_math.leaves_under(node).start)

    # -- paths (§4.1) ---------------------------------------------------------------------------------------

    def resolution(self, node: NodeIndex) -> tuple[NodeIndex, ...]:
        """The nodes whose keys reach exactly the members below (§4.1.1), from left to right."""
        start = tree_math.leaves_under(node).start
        return tuple(tree_nodes.resolution(self._find(node), tree_math.level(node), start))

    def resolution_size(self, node: NodeIndex) -> int:
        """How many nodes that are; known without looking for them."""
        found = self._find(node)
        return 0 if found is None else found.resolution_size

    def direct_path(self, leaf: LeafIndex) -> tuple[NodeIndex, ...]:
        """From the leaf's parent to the root (§4.1.2)."""
        return tree_math.direct_path(self._require(leaf), self.leaf_count)

    def copath(self, leaf: LeafIndex) -> tuple[NodeIndex, ...]:
        """The sibling of the leaf first (§4.1.2)."""
        return tree_math.copath(self._require(leaf), self.leaf_count)

    def filtered_direct_path(self, leaf: LeafIndex) -> tuple[tuple[NodeIndex, NodeIndex], ...]:
        """The ancestors with somebody on the other side, from the leaf upwards, each with its child there (§4.1.2).

        To encrypt to the others would be to encrypt to nobody.
        """
        return tuple(
            (_ancestor(leaf, height), _sibling(leaf, height))
            for height, _, other in self._ascent(leaf)
            if other is not None
        )

    def path_parents(self, leaf: LeafIndex, public_keys: Sequence[bytes]) -> tuple[tuple[ParentNode, ...], bytes]:
        """The filtered direct path with new keys, and what the leaf must have as ``parent_hash`` (§7.9).

        The topmost is made first, as each hash covers the one above. All below know the new keys, so nobody is
        left out of a sibling's hash.
        """
        filtered = [(height, other) for height, _, other in self._ascent(leaf) if other is not None]
        if len(filtered) != len(public_keys):
            raise LocalError(f"{len(public_keys)} keys for a filtered direct path of {len(filtered)} nodes")
        parents = []
        above = b""
        for (height, other), public_key in zip(reversed(filtered), reversed(public_keys), strict=True):
            parents.append(ParentNode(public_key, above))
            above = parent_hash(self.suite, parents[-1], self._other_hash(leaf, height, other))
        return tuple(reversed(parents)), above

    # -- changes (§7.7, §12.1) ------------------------------------------------------------------------------

    def changed(
        self, updates: Mapping[LeafIndex, LeafNode], removes: Collection[LeafIndex], adds: Sequence[LeafNode]
    ) -> tuple["RatchetTree", tuple[LeafIndex, ...]]:
        """The tree after Updates, Removes and Adds, in this order (§12.3), and where the new members are.

        Raises:
            MlsError: ``7.7/too-many-leaves``.
            LocalError: an Update or a Remove of a leaf where nobody is.
        """
        leaves: dict[LeafIndex, LeafNode | None] = dict(updates.items()) | dict.fromkeys(removes)
        indices = sorted(leaves)
        for index in indices:
            if self.leaf(index) is None:
                raise LocalError(f"leaf {index} is blank")
        log = Log()
        root, leaf_count = self._root, self.leaf_count
        if indices:
            root = replace(root, self._height, 0, indices, leaves, log)
        if removes:
            # What the Removes leave is truncated before the first Add looks for a place (§12.1.3).
            root, leaf_count = truncated(root, leaf_count)
        root, leaf_count, places = fill(root, leaf_count, adds, log)
        return RatchetTree(self.suite, root, leaf_count, self._indices_after(log)), places

    def with_path(self, leaf: LeafIndex, leaf_node: LeafNode, parents: Sequence[ParentNode]) -> "RatchetTree":
        """A leaf and its filtered direct path replaced, the rest of its direct path blank (§7.5)."""
        log = Log()
        ascent = self._ascent(leaf)
        if len(parents) != sum(other is not None for _, _, other in ascent):
            raise LocalError(f"{len(parents)} parents are no filtered direct path of leaf {leaf}")
        old = self.leaf(leaf)
        if old is not None:
            log.gone.append((tree_math.node_of(leaf), old))
        log.come.append((tree_math.node_of(leaf), leaf_node))
        fresh = iter(parents)
        node: Node | None = Leaf(leaf_node)
        for height, ancestor, other in ascent:
            if ancestor is not None and ancestor.parent_node is not None:
                log.gone.append((_ancestor(leaf, height), ancestor.parent_node))
            parent_node = None if other is None else next(fresh)
            if parent_node is not None:
                log.come.append((_ancestor(leaf, height), parent_node))
            left, right = (other, node) if leaf >> (height - 1) & 1 else (node, other)
            node = join(left, right, parent_node)
        return RatchetTree(self.suite, node, self.leaf_count, self._indices_after(log))

    # -- the wire (§12.4.3.3) -------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The data of a ``ratchet_tree`` extension."""
        return encode_tree(self._root, self._height)

    @classmethod
    def decode(cls, suite: CipherSuite, data: bytes) -> "RatchetTree":
        """A tree of sound shape. Whether the keys and members in it are good, the checks below tell.

        Raises:
            MlsError: of sections 2, 7.1, 7.2, 7.7, 12.4.3.3.
        """
        return cls(suite, *decode_tree(suite, data))

    # -- what a tree from elsewhere has to stand (§7.3, §7.9.2, §12.4.3.1) ----------------------------------

    def validate_structure(self) -> None:
        """Unmerged leaves, and that no key is there twice.

        Raises:
            MlsError: ``12.4.3.1/unmerged-leaf-...``, ``7.3/duplicate-...``.
        """
        validate_unmerged_leaves(self._root, self._height)
        for index, rule in zip(
            self._key_indices(), ("7.3/duplicate-encryption-key", "7.3/duplicate-signature-key"), strict=True
        ):
            if nodes := index.duplicate():
                raise MlsError(rule, f"nodes {nodes} have one key")

    def verify_parent_keys(self, run: Run = map) -> None:
        """All parents' public keys, in chunks that ``run`` may hand to threads.

        Raises:
            MlsError: ``5.1/invalid-public-key``.
        """
        nodes = tree_nodes.nodes(self._root, self._height, 0)
        parents = tuple((index, node) for index, node in nodes if isinstance(node, ParentNode))
        verify_parent_keys(self.suite, parents, run)

    def verify_parent_hashes(self) -> None:
        """That every parent is vouched for from below (§7.9.2).

        Raises:
            MlsError: ``7.9.2/parent-hash``.
        """
        ParentHashes(self.suite).verify(self._root, self._height, 0)

    def verify_leaf_signatures(self, group_id: bytes, run: Run = map) -> None:
        """All leaves' signatures (§7.3), in chunks that ``run`` may hand to threads.

        Raises:
            MlsError: ``7.3/leaf-signature``, of the first leaf with a wrong one.
        """
        verify_leaf_signatures(self.suite, tuple(self.members()), group_id, run)

    # -- inside ---------------------------------------------------------------------------------------------

    def _find(self, node: NodeIndex) -> Node | None:
        if not 0 <= node < 2 * self.leaf_count - 1:
            raise LocalError(f"node {node} of a tree with {self.leaf_count} leaves")
        return tree_nodes.find(self._root, self._height, 0, node)

    def _ascent(self, leaf: LeafIndex) -> list[tuple[int, Parent | None, Node | None]]:
        """From the leaf's parent to the root: each ancestor's height, itself, and its child on the copath."""
        self._require(leaf)
        steps: list[tuple[int, Parent | None, Node | None]] = []
        node = self._root
        for height in range(self._height, 0, -1):
            if not isinstance(node, Parent):
                steps.append((height, None, None))
                continue
            side, other = (node.right, node.left) if leaf >> (height - 1) & 1 else (node.left, node.right)
            steps.append((height, node, other))
            node = side
        steps.reverse()
        return steps

    def _other_hash(self, leaf: LeafIndex, height: int, other: Node | None) -> bytes:
        """The tree hash of the copath child of the leaf's ancestor at ``height``."""
        below = height - 1
        return tree_nodes.tree_hash(self.suite, other, below, (leaf >> below ^ 1) << below)

    def _require(self, leaf: LeafIndex) -> LeafIndex:
        if not 0 <= leaf < self.leaf_count:
            raise LocalError(f"leaf {leaf} of a tree with {self.leaf_count} leaves")
        return leaf

    def _key_indices(self) -> tuple[KeyIndex, KeyIndex]:
        if self._indices is None:
            nodes = tuple(tree_nodes.nodes(self._root, self._height, 0))
            self._indices = KeyIndex.of(_encryption_keys(nodes)), KeyIndex.of(_signature_keys(nodes))
        return self._indices

    def _indices_after(self, log: Log) -> tuple[KeyIndex, KeyIndex] | None:
        """Nothing, if nobody has asked for them yet."""
        if self._indices is None:
            return None
        encryption, signature = self._indices
        return (
            encryption.changed(_encryption_keys(log.gone), _encryption_keys(log.come)),
            signature.changed(_signature_keys(log.gone), _signature_keys(log.come)),
        )


def _ancestor(leaf: LeafIndex, height: int) -> NodeIndex:
    return tree_math.subtree(LeafIndex(leaf >> height << height), height)


def _sibling(leaf: LeafIndex, height: int) -> NodeIndex:
    """The copath child of that ancestor."""
    below = height - 1
    return tree_math.subtree(LeafIndex((leaf >> below ^ 1) << below), below)


def _encryption_keys(nodes: Nodes) -> Iterator[Place]:
    return ((node.encryption_key, index) for index, node in nodes)


def _signature_keys(nodes: Nodes) -> Iterator[Place]:
    return ((node.signature_key, index) for index, node in nodes if isinstance(node, LeafNode))
