"""Trees of any size, made directly: a history of ten thousand commits would take minutes and end in the same.

``filled_tree`` is what is left when the members have committed one after the other, the last one first. Each parent
is then of the path of the leftmost leaf below it: its left child vouches for it, and the right child has the hash of
a parent that was replaced since. So hashes are made from the top and the right.
"""

from dataclasses import dataclass
from hashlib import shake_256

import msgspec

from protocols.mls import tree_math
from protocols.mls.credentials import BasicCredential
from protocols.mls.leaf_node import (
    LEAF_NODE_LABEL,
    Capabilities,
    LeafIndex,
    LeafNode,
    LeafNodeSource,
    Lifetime,
    NodeIndex,
)
from protocols.mls.parent_hash import parent_hash
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.suite import CipherSuite, Entropy, SignatureKeyPair
from protocols.mls.tree_nodes import Leaf, Node, join, tree_hash

FOREVER = Lifetime(0, 2**64 - 1)


def counting_entropy(seed: object) -> Entropy:
    """The same bytes for the same seed, others at every draw."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        return shake_256(f"{seed} {count}".encode()).digest(size)

    return draw


@dataclass(frozen=True)
class KeyedTree:
    """A tree, and all the private keys that its members have between them."""

    tree: RatchetTree
    encryption_privates: dict[NodeIndex, bytes]
    signature_keys: dict[LeafIndex, SignatureKeyPair]
    group_id: bytes

    def leaf_private(self, leaf: LeafIndex) -> bytes:
        return self.encryption_privates[tree_math.node_of(leaf)]

    def path_privates(self, leaf: LeafIndex) -> dict[NodeIndex, bytes]:
        """Of the leaf's ancestors that are not blank; in these trees everybody knows all of them."""
        path = self.tree.direct_path(leaf)
        return {node: self.encryption_privates[node] for node in path if self.tree.parent(node) is not None}


class _Maker:
    def __init__(self, suite: CipherSuite, group_id: bytes, signed: bool, seed: object) -> None:
        self.suite = suite
        self.group_id = group_id
        self.signed = signed
        self.entropy = counting_entropy(seed)
        self.capabilities = Capabilities(cipher_suites=(suite.id,))
        self.encryption_privates: dict[NodeIndex, bytes] = {}
        self.signature_keys: dict[LeafIndex, SignatureKeyPair] = {}

    def encryption_key(self, node: NodeIndex) -> bytes:
        private, public = self.suite.kem.derive_key_pair(self.entropy(self.suite.kem.private_size))
        self.encryption_privates[node] = private
        return public

    def leaf_node(self, index: int, parent_hash: bytes | None) -> LeafNode:
        """Of a member who has committed, or who is new if there is no parent hash."""
        leaf = LeafIndex(index)
        keys = self.signature_keys[leaf] = self.suite.signature_key_pair(self.entropy)
        new = parent_hash is None
        unsigned = LeafNode(
            self.encryption_key(tree_math.node_of(leaf)),
            keys.public,
            BasicCredential(b"member %d" % index),
            self.capabilities,
            LeafNodeSource.KEY_PACKAGE if new else LeafNodeSource.COMMIT,
            FOREVER if new else None,
            parent_hash,
            (),
            b"",
        )
        return self.resigned(unsigned, leaf) if self.signed else unsigned

    def resigned(self, leaf_node: LeafNode, leaf: LeafIndex) -> LeafNode:
        return resigned(self.suite, leaf_node, leaf, self.signature_keys[leaf], self.group_id)

    def filled(self, count: int, height: int, first: int, vouched: bytes) -> Node:
        """A subtree whose top vouches for what has this hash, and then its part of ``count`` leaves."""
        if height == 0:
            return Leaf(self.leaf_node(first, vouched))
        below = height - 1
        middle = first + (1 << below)
        if middle >= count:
            only = join(self.filled(count, below, first, vouched), None, None)
            assert only is not None
            return only
        right = self.filled(count, below, middle, self.entropy(self.suite.hash_size))
        parent_node = ParentNode(self.encryption_key(tree_math.subtree(LeafIndex(first), height)), vouched)
        vouched = parent_hash(self.suite, parent_node, tree_hash(self.suite, right, below, middle))
        both = join(self.filled(count, below, first, vouched), right, parent_node)
        assert both is not None
        return both


def filled_tree(
    suite: CipherSuite, count: int, *, group_id: bytes = b"group", signed: bool = True, seed: object = 0
) -> KeyedTree:
    """``count`` members; every parent with members on both sides has a key. Unsigned is twice as fast to make."""
    height = (count - 1).bit_length()
    maker = _Maker(suite, group_id, signed, seed)
    tree = RatchetTree(suite, maker.filled(count, height, 0, b""), 1 << height)
    return KeyedTree(tree, maker.encryption_privates, maker.signature_keys, group_id)


def blank_tree(
    suite: CipherSuite, count: int, *, group_id: bytes = b"group", signed: bool = True, seed: object = 0
) -> KeyedTree:
    """``count`` members who were added and have said nothing yet; all parents are blank."""
    maker = _Maker(suite, group_id, signed, seed)
    tree = RatchetTree.from_leaves(suite, [maker.leaf_node(index, None) for index in range(count)])
    return KeyedTree(tree, maker.encryption_privates, maker.signature_keys, group_id)


def resigned(
    suite: CipherSuite, leaf_node: LeafNode, leaf: LeafIndex, keys: SignatureKeyPair, group_id: bytes
) -> LeafNode:
    """The leaf with the signature that its other fields want."""
    signed = leaf_node.to_be_signed(group_id, leaf)
    signature = suite.sign_with_label(keys.private, keys.public, LEAF_NODE_LABEL, signed)
    return msgspec.structs.replace(leaf_node, signature=signature)
