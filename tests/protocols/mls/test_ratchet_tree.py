import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls import ratchet_tree, tree_changes
from protocols.mls.leaf_node import LeafIndex, NodeIndex
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.tree_math import root
from tests.protocols.mls.kit import refused
from tests.protocols.mls.tree_model import SUITE, Change, Group, ModelTree, fake_leaf, histories, read_all
from tests.protocols.mls.trees import blank_tree, filled_tree


def grown(count: int) -> RatchetTree:
    """Of ``count`` members in the leftmost leaves, all parents blank."""
    return RatchetTree.from_leaves(SUITE, [fake_leaf(number) for number in range(count)])


@given(histories)
@settings(max_examples=60, deadline=None)
def test_every_history_leaves_the_tree_that_rfc_9420_tells_step_by_step(history: list[Change]) -> None:
    group = Group()
    for _ in group.run(history):
        tree, model = group.tree, group.model
        nodes = [NodeIndex(index) for index in range(len(model.nodes))]
        assert read_all(tree) == {
            "nodes": model.nodes,
            "hashes": [model.tree_hash(node) for node in nodes],
            "resolutions": [model.resolution(node) for node in nodes],
            "members": model.members(),
            "encoding": model.encode(),
        }
        assert tree.tree_hash == model.tree_hash(root(model.leaf_count))
        assert tree.member_count == len(model.members())
        for leaf in model.members():
            assert tree.filtered_direct_path(leaf) == model.filtered_direct_path(leaf)
        assert tree.leftmost_blank() == next((i for i, n in enumerate(model.nodes[::2]) if n is None), tree.leaf_count)


@given(histories)
@settings(max_examples=25, deadline=None)
def test_older_trees_stay_as_they_were(history: list[Change]) -> None:
    group = Group()
    kept = [(group.tree, read_all(group.tree))]
    for _ in group.run(history):
        kept.append((group.tree, read_all(group.tree)))
        group.tree.support.all_support_proposal(1)
    for tree, then in kept:
        assert read_all(tree) == then


@given(histories, st.integers(0, 12))
@settings(max_examples=40, deadline=None)
def test_keys_are_found_where_they_are_whenever_the_index_was_made(history: list[Change], asked_first: int) -> None:
    group = Group()
    for step, _ in enumerate(group.run(history)):
        if step >= asked_first:
            tree = group.tree
            places = {leaf.encryption_key: index for index, leaf in tree.members()}
            for index, leaf in tree.members():
                assert tree.leaf_of_signature_key(leaf.signature_key) == index
            for number in range(group.made + 1):
                key = b"encryption %d" % number
                assert tree.leaf_of_encryption_key(key) == places.get(key)
                assert tree.has_encryption_key(key) == (key in places)
            parents = [tree.parent(NodeIndex(node)) for node in range(1, 2 * tree.leaf_count - 1, 2)]
            keys = {parent.encryption_key for parent in parents if parent is not None}
            for number in range(group.made + 1):
                key = b"parent %d" % number
                assert tree.has_encryption_key(key) == (key in keys)
                assert tree.leaf_of_encryption_key(key) is None
            tree.validate_structure()


def test_unchanged_subtrees_are_shared() -> None:
    before = grown(64)
    after, _ = before.changed({LeafIndex(5): fake_leaf(100)}, (), ())
    shared = [node for node in map(NodeIndex, range(127)) if before._find(node) is after._find(node)]
    assert len(shared) == 127 - 7
    assert 2 * 5 not in shared


def test_truncation_waits_for_the_right_half_to_be_empty() -> None:
    tree = grown(5)
    assert tree.leaf_count == 8
    smaller, _ = tree.changed({}, [LeafIndex(3)], ())
    assert smaller.leaf_count == 8
    smaller, _ = smaller.changed({}, [LeafIndex(4)], ())
    assert smaller.leaf_count == 4
    smaller, _ = smaller.changed({}, [LeafIndex(1), LeafIndex(2)], ())
    assert (smaller.leaf_count, smaller.member_count) == (1, 1)


def test_add_after_a_remove_finds_the_tree_truncated() -> None:
    tree, places = grown(5).changed({}, [LeafIndex(4)], [fake_leaf(9)])
    assert (places, tree.leaf_count) == ((4,), 8)
    tree, places = grown(5).changed({}, [LeafIndex(4), LeafIndex(1)], [fake_leaf(9)])
    assert (places, tree.leaf_count) == ((1,), 4)


def test_joiner_takes_the_place_of_the_last_member_removed() -> None:
    tree, places = grown(1).changed({}, [LeafIndex(0)], [fake_leaf(9)])
    assert (places, tree.leaf_count, tree.member_count) == ((0,), 1, 1)
    nobody, _ = grown(1).changed({}, [LeafIndex(0)], ())
    assert (nobody.member_count, nobody.leaf_count, nobody.leftmost_blank()) == (0, 1, 0)
    assert nobody.support.all_support_extension(0x4242)


def test_new_members_are_unmerged_leaves_of_every_key_above_them() -> None:
    tree = filled_tree(SUITE, 8).tree
    tree, _ = tree.changed({}, [LeafIndex(6)], ())
    tree, places = tree.changed({}, (), [fake_leaf(100), fake_leaf(101)])
    assert places == (6, 8)
    assert tree.leaf_count == 16
    above = [tree.parent(node) for node in tree.direct_path(LeafIndex(6))]
    assert above == [None] * 4
    tree = filled_tree(SUITE, 7).tree
    tree, _ = tree.changed({}, (), [fake_leaf(100)])
    assert [parent and parent.unmerged_leaves for parent in map(tree.parent, tree.direct_path(LeafIndex(7)))] == [
        None,
        (7,),
        (7,),
    ]
    assert tree.resolution(root(8)) == (7, 14)


def test_unmerged_leaves_stay_in_order_when_the_tree_was_not_filled_from_the_left() -> None:
    model = ModelTree([None] * 15)
    model.nodes[0], model.nodes[10], model.nodes[14] = fake_leaf(0), fake_leaf(5), fake_leaf(7)
    model.nodes[7] = ParentNode(b"key", b"", (5,))
    tree, places = RatchetTree.decode(SUITE, model.encode()).changed({}, (), [fake_leaf(1), fake_leaf(2)])
    assert places == (1, 2)
    assert tree.resolution(NodeIndex(7)) == (7, 2, 4, 10)


def test_full_tree_of_the_largest_size_takes_nobody_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_changes, "LEAF_COUNT_MAX", 8)
    with refused("7.7/too-many-leaves"):
        grown(5).changed({}, (), [fake_leaf(100 + number) for number in range(4)])
    assert grown(5).changed({}, (), [fake_leaf(100 + number) for number in range(3)])[0].leaf_count == 8


def test_path_that_does_not_reach_the_leaf_is_refused() -> None:
    tree = filled_tree(SUITE, 8).tree
    leaf = LeafIndex(3)
    keys = [b"new key %d" % number for number in range(3)]
    parents, parent_hash = tree.path_parents(leaf, keys)
    tree.with_path(leaf, fake_leaf(9, parent_hash), parents).verify_parent_hashes()
    for held in (b"", bytes(32), None, parent_hash[:-1]):
        with refused("7.9.2/parent-hash"):
            tree.with_path(leaf, fake_leaf(9, held), parents).verify_parent_hashes()
    for place in range(3):
        changed = list(parents)
        changed[place] = ParentNode(parents[place].encryption_key, bytes(32))
        with refused("7.9.2/parent-hash"):
            tree.with_path(leaf, fake_leaf(9, parent_hash), changed).verify_parent_hashes()


def test_member_alone_commits_with_an_empty_path() -> None:
    tree = grown(1)
    assert tree.filtered_direct_path(LeafIndex(0)) == ()
    assert tree.path_parents(LeafIndex(0), ()) == ((), b"")
    tree.with_path(LeafIndex(0), fake_leaf(1, b""), ()).verify_parent_hashes()


def test_leaf_beyond_the_tree_is_nobody() -> None:
    assert grown(3).leaf(LeafIndex(3)) is None
    assert grown(3).leaf(LeafIndex(4)) is None
    assert grown(3).leaf(LeafIndex(2**32 - 1)) is None


def test_wrong_use_is_the_callers_fault() -> None:
    tree = grown(3)
    for updates, removes in (({LeafIndex(3): fake_leaf(1)}, ()), ({}, [LeafIndex(3)]), ({}, [LeafIndex(4)])):
        with pytest.raises(LocalError, match="is blank"):
            tree.changed(updates, removes, ())
    with pytest.raises(LocalError, match="leaf -1"):
        tree.leaf(LeafIndex(-1))
    with pytest.raises(LocalError, match="node 7"):
        tree.node(NodeIndex(7))
    with pytest.raises(LocalError, match="leaf 4"):
        tree.filtered_direct_path(LeafIndex(4))
    with pytest.raises(LocalError, match="1 keys for a filtered direct path of 2"):
        tree.path_parents(LeafIndex(0), [b"key"])
    with pytest.raises(LocalError, match="no filtered direct path"):
        tree.with_path(LeafIndex(0), fake_leaf(1), ())
    with pytest.raises(LocalError, match="a tree of 0 leaves"):
        RatchetTree.from_leaves(SUITE, [])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_made_trees_are_sound(count: int) -> None:
    for made in (filled_tree(SUITE, count), blank_tree(SUITE, count)):
        tree = RatchetTree.decode(SUITE, made.tree.encode())
        assert (tree.member_count, tree.tree_hash) == (count, made.tree.tree_hash)
        tree.validate_structure()
        tree.verify_parent_hashes()
        tree.verify_leaf_signatures(made.group_id)
        for leaf in made.signature_keys:
            for node, private in made.path_privates(leaf).items():
                parent = tree.parent(node)
                assert parent is not None
                assert SUITE.kem.public(private) == parent.encryption_key
            member = tree.leaf(leaf)
            assert member is not None
            assert SUITE.kem.public(made.leaf_private(leaf)) == member.encryption_key


def test_bound_of_leaves_is_one_for_reading_and_for_adding() -> None:
    assert ratchet_tree.LEAF_COUNT_MAX == 2**20
