"""The ``ratchet_tree`` extension (RFC 9420 §12.4.3.3): a tree from left to right, without the blanks at its end.

What is read is of sound shape: leaves and parents in their places, unmerged leaves below their parents, few enough
nodes. Each leaf is hashed from the bytes it came in, as to encode it again takes longer than to hash it.
"""

from typing import Final

from protocols.mls.codec import Reader, decode, vector
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafNode, NodeIndex
from protocols.mls.suite import CipherSuite
from protocols.mls.tree_math import leaves_under
from protocols.mls.tree_nodes import LEAF_COUNT_MAX, Leaf, Node, ParentNode, build, leaf_tree_hash

LEAF: Final = 1
PARENT: Final = 2
"""§7.8, ``NodeType``."""

NODE_SIZE: Final = 224
"""What a node is taken to need in memory, beside the bytes in it (``Reader.room``)."""


def encode_tree(root: Node | None, height: int) -> bytes:
    nodes = [b"\0"] * ((2 << height) - 1)
    _encode(root, height, 0, nodes)
    count = len(nodes)
    while count and nodes[count - 1] == b"\0":
        count -= 1
    return vector(nodes[:count])


def _encode(node: Node | None, height: int, first: int, nodes: list[bytes]) -> None:
    if isinstance(node, Leaf):
        nodes[2 * first] = b"\1\1" + node.leaf_node.encode()
    elif node is not None:
        below = height - 1
        if node.parent_node is not None:
            nodes[2 * first + (1 << height) - 1] = b"\1\2" + node.parent_node.encode()
        _encode(node.left, below, first, nodes)
        _encode(node.right, below, first + (1 << below), nodes)


def decode_tree(suite: CipherSuite, data: bytes) -> tuple[Node | None, int]:
    """The root, and how many leaves there is room for."""
    leaves, parents = _read_nodes(suite, Reader(decode(Reader.opaque, data)))
    if len(leaves) == len(parents):
        raise MlsError("12.4.3.3/node-count", f"{2 * len(leaves)} nodes")
    if leaves[-1] is None:
        raise MlsError("12.4.3.3/trailing-blank", f"leaf {len(leaves) - 1} is the last, and blank")
    return build(leaves, parents)


def _read_nodes(suite: CipherSuite, reader: Reader) -> tuple[list[Leaf | None], list[ParentNode | None]]:
    leaves: list[Leaf | None] = []
    parents: list[ParentNode | None] = []
    while reader.offset < reader.end:
        present = reader.uint8()
        if present > 1:
            raise MlsError("2.1.1/invalid-presence", f"the presence octet is {present}")
        kind = reader.uint8() if present else 0
        if present and kind not in (LEAF, PARENT):
            raise MlsError("12.4.3.3/unknown-node-type", f"type {kind}")
        reader.spend(NODE_SIZE * present)
        index = len(leaves) + len(parents)
        if index & 1:
            if kind == LEAF:
                raise MlsError("12.4.3.3/node-type", f"node {index} is a leaf")
            parents.append(_read_parent(reader, index) if present else None)
            continue
        if kind == PARENT:
            raise MlsError("12.4.3.3/node-type", f"node {index} is a parent")
        if len(leaves) == LEAF_COUNT_MAX:
            raise MlsError("7.7/too-many-leaves", f"more than {LEAF_COUNT_MAX}")
        if not present:
            leaves.append(None)
            continue
        start = reader.offset
        leaf_node = LeafNode.read(reader)
        leaves.append(Leaf(leaf_node, leaf_tree_hash(suite, len(leaves), reader.data[start : reader.offset])))
    return leaves, parents


def _read_parent(reader: Reader, index: int) -> ParentNode:
    parent_node = ParentNode.read(reader)
    if unmerged := parent_node.unmerged_leaves:
        below = leaves_under(NodeIndex(index))
        if unmerged[0] not in below or unmerged[-1] not in below:
            raise MlsError("7.1/unmerged-leaf-outside", f"{unmerged[0]} to {unmerged[-1]} below node {index}")
    return parent_node
