import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls.leaf_node import LeafIndex, NodeIndex
from protocols.mls.tree_math import (
    common_ancestor,
    copath,
    direct_path,
    leaf_of,
    leaves_under,
    left,
    level,
    node_of,
    parent,
    right,
    root,
    sibling,
    subtree,
)

sizes = st.sampled_from([2**height for height in range(8)])


@given(sizes)
@settings(max_examples=8)
def test_each_parent_stands_between_the_leaves_of_its_two_halves(leaf_count: int) -> None:
    assert leaves_under(root(leaf_count)) == range(leaf_count)
    for node in map(NodeIndex, range(1, 2 * leaf_count - 1, 2)):
        below = leaves_under(node)
        middle = below.start + len(below) // 2
        assert leaves_under(left(node)) == range(below.start, middle)
        assert leaves_under(right(node)) == range(middle, below.stop)
        assert level(left(node)) == level(right(node)) == level(node) - 1
        assert subtree(LeafIndex(below.start), level(node)) == node
        for child, other in ((left(node), right(node)), (right(node), left(node))):
            assert parent(child, leaf_count) == node
            assert sibling(child, leaf_count) == other


@given(sizes)
@settings(max_examples=8)
def test_direct_path_is_every_node_above_and_the_copath_what_hangs_off_it(leaf_count: int) -> None:
    for leaf in map(LeafIndex, range(leaf_count)):
        above = [node for node in range(1, 2 * leaf_count - 1, 2) if leaf in leaves_under(NodeIndex(node))]
        path = direct_path(leaf, leaf_count)
        assert sorted(path) == above
        assert [level(node) for node in path] == list(range(1, len(path) + 1))
        others = sorted(each for node in copath(leaf, leaf_count) for each in leaves_under(node))
        assert others == [each for each in range(leaf_count) if each != leaf]


@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_common_ancestor_is_the_lowest_node_above_both(one: int, other: int) -> None:
    node = common_ancestor(LeafIndex(one), LeafIndex(other))
    assert one in leaves_under(node)
    assert other in leaves_under(node)
    if one != other:
        assert (one in leaves_under(left(node))) != (other in leaves_under(left(node)))
    else:
        assert node == node_of(LeafIndex(one))


def test_leaf_zero_is_a_leaf_like_any_other() -> None:
    assert node_of(LeafIndex(0)) == root(1) == 0
    assert leaf_of(NodeIndex(0)) == 0
    assert direct_path(LeafIndex(0), 1) == copath(LeafIndex(0), 1) == ()
    assert direct_path(LeafIndex(0), 4) == (1, 3)


def test_what_does_not_exist_is_the_callers_fault() -> None:
    with pytest.raises(LocalError, match="node 2 is a leaf"):
        left(NodeIndex(2))
    with pytest.raises(LocalError, match="node 0 is a leaf"):
        right(NodeIndex(0))
    with pytest.raises(LocalError, match="node 3 is a parent"):
        leaf_of(NodeIndex(3))
    with pytest.raises(LocalError, match="node 3 is the root"):
        parent(NodeIndex(3), 4)
    with pytest.raises(LocalError, match="node 0 is the root"):
        sibling(NodeIndex(0), 1)
    for leaf_count in (0, 3, -4):
        with pytest.raises(LocalError, match="power of two"):
            root(leaf_count)
