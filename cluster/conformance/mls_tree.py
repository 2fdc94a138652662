"""The MLS working group's vectors of the ratchet tree: ``tree-math``, ``tree-operations``, ``tree-validation``."""

from collections.abc import Callable
from typing import Any

from cluster.conformance.registry import Kind, MismatchError, expect_equal, register
from cluster.conformance.shapes import cases_with, numbered, octets, suite_of
from protocols.errors import LocalError
from protocols.mls import tree_math
from protocols.mls.codec import decode
from protocols.mls.leaf_node import LeafIndex, NodeIndex
from protocols.mls.proposals import Add, Remove, Update, read_proposal
from protocols.mls.ratchet_tree import RatchetTree


def _run_tree_math(case: dict[str, Any]) -> None:
    leaf_count = case["n_leaves"]
    expect_equal("number of nodes", 2 * leaf_count - 1, case["n_nodes"])
    expect_equal("root", tree_math.root(leaf_count), case["root"])
    relations: tuple[tuple[str, Callable[[NodeIndex], NodeIndex]], ...] = (
        ("left", tree_math.left),
        ("right", tree_math.right),
        ("parent", lambda node: tree_math.parent(node, leaf_count)),
        ("sibling", lambda node: tree_math.sibling(node, leaf_count)),
    )
    for name, relation in relations:
        expect_equal(f"number of {name} entries", len(case[name]), case["n_nodes"])
        for node, published in enumerate(case[name]):
            expect_equal(f"{name} of node {node}", _or_none(relation, NodeIndex(node)), published)


def _or_none(relation: Callable[[NodeIndex], NodeIndex], node: NodeIndex) -> int | None:
    try:
        return relation(node)
    except LocalError:
        return None


def _run_tree_operations(case: dict[str, Any]) -> None:
    suite = suite_of(case)
    tree = RatchetTree.decode(suite, octets(case["tree_before"]))
    expect_equal("tree hash before", tree.tree_hash, octets(case["tree_hash_before"]))
    match decode(read_proposal, octets(case["proposal"])):
        case Add(key_package):
            tree, _ = tree.changed({}, (), (key_package.leaf_node,))
        case Update(leaf_node):
            tree, _ = tree.changed({LeafIndex(case["proposal_sender"]): leaf_node}, (), ())
        case Remove(removed):
            tree, _ = tree.changed({}, (LeafIndex(removed),), ())
        case other:
            raise MismatchError(f"a proposal of type {other.proposal_type} changes no tree")
    expect_equal("tree after", tree.encode(), octets(case["tree_after"]))
    expect_equal("tree hash after", tree.tree_hash, octets(case["tree_hash_after"]))


def _run_tree_validation(case: dict[str, Any]) -> None:
    suite = suite_of(case)
    tree = RatchetTree.decode(suite, octets(case["tree"]))
    expect_equal("encoding", tree.encode(), octets(case["tree"]))
    nodes = range(2 * tree.leaf_count - 1)
    expect_equal("number of resolutions", len(nodes), len(case["resolutions"]))
    expect_equal("number of tree hashes", len(nodes), len(case["tree_hashes"]))
    for node in map(NodeIndex, nodes):
        expect_equal(f"resolution of node {node}", list(tree.resolution(node)), case["resolutions"][node])
        expect_equal(f"tree hash of node {node}", tree.hash_of(node), octets(case["tree_hashes"][node]))
    tree.validate_structure()
    tree.verify_parent_hashes()
    tree.verify_leaf_signatures(octets(case["group_id"]))


register(Kind("MLS tree-math", cases_with("n_leaves", "left", "sibling"), numbered, _run_tree_math))
register(Kind("MLS tree-operations", cases_with("tree_before", "proposal"), numbered, _run_tree_operations))
register(Kind("MLS tree-validation", cases_with("tree", "tree_hashes", "resolutions"), numbered, _run_tree_validation))
