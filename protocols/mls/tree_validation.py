"""What only a look at all of a tree can tell (RFC 9420 §7.3, §12.4.3.1).

Each parent names the members below who do not know its key. To leave one out is to keep somebody from a secret that
others think shared; to name one too many lets a key be replaced unnoticed. So the lists have to agree from each
parent down to the leaf.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from protocols.mls.chunks import Run, in_chunks
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LEAF_NODE_LABEL, LeafIndex, LeafNode, NodeIndex
from protocols.mls.suite import CipherSuite
from protocols.mls.tree_math import subtree
from protocols.mls.tree_nodes import Node, Parent, ParentNode


def validate_unmerged_leaves(node: Node | None, height: int, first: int = 0, above: tuple[int, ...] = ()) -> None:
    """That the unmerged leaves of each parent are members, and also those of every parent between (§12.4.3.1).

    ``above`` are those of the nearest parent above that is not blank, as far as they are in this subtree.
    """
    if not isinstance(node, Parent):
        if above and node is None:
            raise MlsError("12.4.3.1/unmerged-leaf-blank", f"leaf {above[0]}")
        return
    if (parent_node := node.parent_node) is not None:
        unmerged = parent_node.unmerged_leaves
        if above and (missing := frozenset(above).difference(unmerged)):
            raise MlsError(
                "12.4.3.1/unmerged-leaf-skipped",
                f"node {subtree(LeafIndex(first), height)} misses leaf {min(missing)}",
            )
        above = unmerged
    below = height - 1
    middle = first + (1 << below)
    split = bisect_left(above, middle)
    validate_unmerged_leaves(node.left, below, first, above[:split])
    validate_unmerged_leaves(node.right, below, middle, above[split:])


def verify_parent_keys(suite: CipherSuite, parents: Sequence[tuple[NodeIndex, ParentNode]], run: Run) -> None:
    """That something can be encrypted to each parent (§5.1, §7.1).

    A parent hash is over whatever bytes there are. With a key that is none in the tree, every path past it fails,
    and its author would be found only after we have joined.
    """

    def wrong(parents: Sequence[tuple[NodeIndex, ParentNode]]) -> Iterator[NodeIndex]:
        for index, parent_node in parents:
            try:
                suite.check_public(parent_node.encryption_key)
            except MlsError:
                yield index

    for index in in_chunks(run, wrong, parents):
        raise MlsError("5.1/invalid-public-key", f"of node {index}")


def verify_leaf_signatures(
    suite: CipherSuite, members: Sequence[tuple[LeafIndex, LeafNode]], group_id: bytes, run: Run
) -> None:
    """Each member's signature of its leaf (§7.2)."""

    def wrong(members: Sequence[tuple[LeafIndex, LeafNode]]) -> Iterator[LeafIndex]:
        for index, leaf in members:
            signed = leaf.to_be_signed(group_id, index)
            if not suite.verify_with_label(leaf.signature_key, LEAF_NODE_LABEL, signed, leaf.signature):
                yield index

    for index in in_chunks(run, wrong, members):
        raise MlsError("7.3/leaf-signature", f"leaf {index}")
