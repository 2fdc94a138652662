from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings

from protocols.mls.codec import vector
from protocols.mls.leaf_node import LeafIndex, LeafNode, LeafNodeSource, NodeIndex
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.suite import CipherSuite
from tests.protocols.mls.kit import refused
from tests.protocols.mls.tree_model import SUITE, Change, Group, ModelTree, fake_leaf, histories
from tests.protocols.mls.trees import filled_tree


def altered(tree: RatchetTree, changes: dict[int, LeafNode | ParentNode | None]) -> RatchetTree:
    """The tree as somebody would send it who has changed these nodes."""
    model = ModelTree([tree.node(NodeIndex(index)) for index in range(2 * tree.leaf_count - 1)])
    for index, node in changes.items():
        model.nodes[index] = node
    return RatchetTree.decode(SUITE, model.encode())


def refuses(tree: RatchetTree) -> None:
    with refused("7.9.2/parent-hash"):
        tree.verify_parent_hashes()


@given(histories)
@settings(max_examples=80, deadline=None)
def test_every_key_that_a_history_leaves_is_vouched_for(history: list[Change]) -> None:
    group = Group()
    for _ in group.run(history):
        tree = RatchetTree.decode(SUITE, group.tree.encode())
        tree.verify_parent_hashes()
        tree.validate_structure()


@given(histories)
@settings(max_examples=40, deadline=None)
def test_key_that_nobody_vouched_for_is_found_wherever_it_is(history: list[Change]) -> None:
    group = Group()
    for _ in group.run(history):
        pass
    for index in range(1, 2 * group.tree.leaf_count - 1, 2):
        parent = group.tree.parent(NodeIndex(index))
        if parent is not None:
            forged: tuple[ParentNode, ...] = (
                msgspec.structs.replace(parent, encryption_key=b"the forger's own"),
                msgspec.structs.replace(parent, parent_hash=parent.parent_hash + b"\0"),
            )
            for node in forged:
                refuses(altered(group.tree, {index: node}))


def test_leaf_that_has_not_committed_vouches_for_nothing() -> None:
    tree = filled_tree(SUITE, 4).tree
    leaf = tree.leaf(LeafIndex(0))
    assert leaf is not None
    refuses(altered(tree, {0: msgspec.structs.replace(leaf, source=LeafNodeSource.UPDATE, parent_hash=None)}))
    refuses(altered(tree, {0: msgspec.structs.replace(leaf, parent_hash=b"")}))


def test_sibling_subtree_is_part_of_what_is_vouched_for() -> None:
    tree = filled_tree(SUITE, 8).tree
    for index in (2, 6, 14):
        refuses(altered(tree, {index: fake_leaf(100)}))


def test_member_who_came_later_is_left_out_of_the_hash_at_every_node() -> None:
    group = Group()
    group.apply(Change(adds=7))
    group.commit(LeafIndex(0))
    group.commit(LeafIndex(6))
    group.commit(LeafIndex(0))
    # Node 11 above leaf 5 goes blank, and leaf 5 comes back below the blank one and below the root's key.
    group.apply(Change(updates=(4,)))
    group.commit(LeafIndex(0))
    group.apply(Change(removes=(5,)))
    group.commit(LeafIndex(0))
    group.apply(Change(adds=1))
    tree = group.tree
    assert tree.parent(NodeIndex(11)) is None
    top = tree.parent(NodeIndex(7))
    assert top is not None
    assert top.unmerged_leaves == (5,)
    tree.verify_parent_hashes()
    for unmerged in ((), (4, 5), (5, 6)):
        refuses(altered(tree, {7: msgspec.structs.replace(top, unmerged_leaves=unmerged)}))


def test_key_under_a_blank_parent_still_vouches_for_the_next_one() -> None:
    group = Group()
    group.apply(Change(adds=3))
    group.apply(Change(removes=(1,)))
    group.commit(LeafIndex(0))
    tree = group.tree
    assert tree.parent(NodeIndex(1)) is None
    assert tree.parent(NodeIndex(3)) is not None
    tree.verify_parent_hashes()
    group.apply(Change(adds=1))
    group.tree.verify_parent_hashes()
    # Leaf 1 is new; to hide it from the root's unmerged leaves is to claim that it knows the key.
    top = group.tree.parent(NodeIndex(3))
    assert top is not None
    refuses(altered(group.tree, {3: msgspec.structs.replace(top, unmerged_leaves=())}))


def test_member_who_came_later_is_taken_out_of_the_lists_of_the_sibling_too() -> None:
    tree, places = filled_tree(SUITE, 7).tree.changed({}, (), [fake_leaf(100), fake_leaf(101)])
    assert places == (7, 8)
    for node in (7, 11):
        parent = tree.parent(NodeIndex(node))
        assert parent is not None
        assert parent.unmerged_leaves == (7,)
    tree.verify_parent_hashes()


def test_key_whose_committer_is_called_unmerged_is_refused() -> None:
    tree = filled_tree(SUITE, 8).tree
    for node, unmerged in ((1, (0,)), (1, (0, 1)), (3, (0,)), (7, (0,))):
        parent = tree.parent(NodeIndex(node))
        assert parent is not None
        refuses(altered(tree, {node: msgspec.structs.replace(parent, unmerged_leaves=unmerged)}))
    two = filled_tree(SUITE, 2).tree
    parent = two.parent(NodeIndex(1))
    assert parent is not None
    refuses(altered(two, {1: msgspec.structs.replace(parent, unmerged_leaves=(0,))}))


def test_key_said_to_be_known_to_an_unmerged_leaf_of_the_one_below_is_refused() -> None:
    group = Group()
    group.apply(Change(adds=7))
    group.apply(Change(removes=(1,)))
    group.commit(LeafIndex(0))
    group.apply(Change(adds=1))
    below, above = group.tree.parent(NodeIndex(3)), group.tree.parent(NodeIndex(7))
    assert below is not None
    assert above is not None
    assert below.unmerged_leaves == above.unmerged_leaves == (1,)
    group.tree.verify_parent_hashes()
    refuses(altered(group.tree, {7: msgspec.structs.replace(above, unmerged_leaves=())}))
    refuses(altered(group.tree, {3: msgspec.structs.replace(below, unmerged_leaves=())}))


def test_parent_with_nobody_below_is_refused() -> None:
    refuses(RatchetTree.decode(SUITE, vector([b"\0", b"\1\2" + ParentNode(b"key", b"").encode(), b"\0" * 2, LEAF])))


LEAF = b"\1\1" + fake_leaf(0).encode()


@pytest.mark.parametrize("unmerged_everywhere", [False, True])
def test_work_grows_with_the_tree_and_no_faster(unmerged_everywhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def hashes_for(height: int) -> int:
        tree = filled_tree(SUITE, 2**height - 2 ** (height - 2), signed=False).tree
        if unmerged_everywhere:
            tree, _ = tree.changed({}, (), [fake_leaf(number) for number in range(2 ** (height - 2))])
        tree = RatchetTree.decode(SUITE, tree.encode())
        count = 0
        real: Callable[[CipherSuite, bytes], bytes] = CipherSuite.hash

        def counted(suite: CipherSuite, data: bytes) -> bytes:
            nonlocal count
            count += 1
            return real(suite, data)

        with monkeypatch.context() as patch:
            patch.setattr(CipherSuite, "hash", counted)
            tree.verify_parent_hashes()
        return count

    assert hashes_for(8) < 2.5 * hashes_for(7)
