import pytest
from hypothesis import given, settings

from protocols.mls import tree_encoding
from protocols.mls.codec import varint, vector
from protocols.mls.errors import MlsError
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from tests.protocols.mls.kit import refused
from tests.protocols.mls.tree_model import SUITE, Change, Group, fake_leaf, histories, read_all

BLANK = b"\0"
LEAF = b"\1\1" + fake_leaf(0).encode()
OTHER = b"\1\1" + fake_leaf(1).encode()
PARENT = b"\1\2" + ParentNode(b"key", b"").encode()


def parent_over(*unmerged: int) -> bytes:
    return b"\1\2" + ParentNode(b"key", b"", unmerged).encode()


def decode(*nodes: bytes) -> RatchetTree:
    return RatchetTree.decode(SUITE, vector(nodes))


@given(histories)
@settings(max_examples=30, deadline=None)
def test_tree_read_back_is_the_same_tree(history: list[Change]) -> None:
    group = Group()
    for _ in group.run(history):
        assert read_all(RatchetTree.decode(SUITE, group.tree.encode())) == read_all(group.tree)


def test_tree_cut_anywhere_or_followed_by_a_byte_is_refused() -> None:
    data = vector([LEAF, parent_over(1), OTHER])
    assert RatchetTree.decode(SUITE, data).encode() == data
    for size in range(len(data)):
        with refused("2.1/truncated"):
            RatchetTree.decode(SUITE, data[:size])
    for size in range(len(data) - 2):
        if size != len(LEAF):
            with pytest.raises(MlsError):
                RatchetTree.decode(SUITE, varint(size) + data[2 : 2 + size])
    with refused("2.1/trailing-bytes"):
        RatchetTree.decode(SUITE, data + b"\0")


def test_tree_is_filled_up_to_a_power_of_two() -> None:
    tree = decode(LEAF, BLANK, BLANK, BLANK, OTHER)
    assert (tree.leaf_count, tree.member_count) == (4, 2)


def test_blank_node_at_the_end_is_refused() -> None:
    for nodes in ([BLANK], [LEAF, BLANK, BLANK], [LEAF, PARENT, BLANK]):
        with refused("12.4.3.3/trailing-blank"):
            decode(*nodes)


def test_even_number_of_nodes_is_refused() -> None:
    for nodes in ([], [LEAF, BLANK], [LEAF, PARENT], [LEAF, PARENT, OTHER, PARENT]):
        with refused("12.4.3.3/node-count"):
            decode(*nodes)


def test_leaf_among_parents_and_parent_among_leaves_are_refused() -> None:
    for nodes in ([LEAF, OTHER, LEAF], [PARENT], [LEAF, BLANK, PARENT]):
        with refused("12.4.3.3/node-type"):
            decode(*nodes)


def test_unknown_node_type_is_refused() -> None:
    for kind in (0, 3, 255):
        for before in ([], [LEAF]):
            with refused("12.4.3.3/unknown-node-type"):
                decode(*before, bytes((1, kind)))


def test_presence_octet_of_a_node_is_zero_or_one() -> None:
    with refused("2.1.1/invalid-presence"):
        decode(b"\2" + LEAF[1:])


def test_unmerged_leaves_out_of_order_are_refused() -> None:
    for unmerged in ((1, 0), (1, 1), (0, 1, 1)):
        with refused("7.1/unmerged-leaves-order"):
            decode(LEAF, parent_over(*unmerged), OTHER)


def test_unmerged_leaf_outside_of_the_parents_subtree_is_refused() -> None:
    for unmerged in ((0, 2), (2,), (2**32 - 1,)):
        with refused("7.1/unmerged-leaf-outside"):
            decode(LEAF, parent_over(*unmerged), OTHER, BLANK, LEAF)
    for unmerged in ((1,), (1, 2)):
        with refused("7.1/unmerged-leaf-outside"):
            decode(LEAF, BLANK, OTHER, BLANK, LEAF, parent_over(*unmerged), LEAF)


def test_more_leaves_than_are_read_are_refused_before_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_encoding, "LEAF_COUNT_MAX", 4)
    nodes = [BLANK] * 6
    assert decode(*nodes, LEAF).leaf_count == 4
    with refused("7.7/too-many-leaves"):
        decode(*nodes, BLANK, BLANK, LEAF)
