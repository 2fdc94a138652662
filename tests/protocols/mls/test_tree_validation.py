from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.mls import chunks
from protocols.mls.errors import MlsError
from protocols.mls.leaf_node import LeafIndex, LeafNode, NodeIndex
from protocols.mls.ratchet_tree import ParentNode, RatchetTree
from protocols.mls.suite import SUITES
from protocols.mls.tree_math import leaves_under, left, right
from tests.protocols.mls.kit import refused
from tests.protocols.mls.tree_model import SUITE, ModelTree, fake_leaf, read_all
from tests.protocols.mls.trees import blank_tree, filled_tree


def altered(tree: RatchetTree, index: int, **fields: object) -> RatchetTree:
    """The tree as somebody would send it who has changed fields of one node."""
    model = ModelTree([tree.node(NodeIndex(each)) for each in range(2 * tree.leaf_count - 1)])
    node = model.nodes[index]
    assert node is not None
    model.nodes[index] = msgspec.structs.replace(node, **fields)
    return RatchetTree.decode(tree.suite, model.encode())


def parent(tree: RatchetTree, node: int) -> ParentNode:
    found = tree.parent(NodeIndex(node))
    assert found is not None
    return found


def member(tree: RatchetTree, leaf: int) -> LeafNode:
    found = tree.leaf(LeafIndex(leaf))
    assert found is not None
    return found


def test_unmerged_leaf_that_is_blank_is_refused() -> None:
    tree, _ = filled_tree(SUITE, 8).tree.changed({}, [LeafIndex(6)], ())
    tree = altered(filled_tree(SUITE, 7).tree, 7, unmerged_leaves=(7,))
    with refused("12.4.3.1/unmerged-leaf-skipped"):
        tree.validate_structure()
    tree = altered(tree, 11, unmerged_leaves=(7,))
    with refused("12.4.3.1/unmerged-leaf-blank"):
        tree.validate_structure()


def test_unmerged_leaf_that_a_parent_between_does_not_have_is_refused() -> None:
    tree = filled_tree(SUITE, 8).tree
    everywhere = tree
    for node in (1, 3, 7):
        everywhere = altered(everywhere, node, unmerged_leaves=(1,))
    everywhere.validate_structure()
    for node in (1, 3):
        with refused("12.4.3.1/unmerged-leaf-skipped"):
            altered(everywhere, node, unmerged_leaves=()).validate_structure()
    altered(everywhere, 7, unmerged_leaves=()).validate_structure()


def test_unmerged_leaf_passes_a_blank_parent() -> None:
    tree = filled_tree(SUITE, 8).tree
    model = ModelTree([tree.node(NodeIndex(each)) for each in range(15)])
    model.nodes[3] = None
    tree = RatchetTree.decode(SUITE, model.encode())
    with refused("12.4.3.1/unmerged-leaf-skipped"):
        altered(tree, 7, unmerged_leaves=(1,)).validate_structure()
    altered(altered(tree, 7, unmerged_leaves=(1,)), 1, unmerged_leaves=(1,)).validate_structure()


@pytest.mark.parametrize(("one", "other"), [(0, 14), (0, 13), (3, 7), (3, 4), (1, 5)])
def test_encryption_key_that_two_nodes_have_is_refused(one: int, other: int) -> None:
    tree = filled_tree(SUITE, 8, signed=False).tree
    node = tree.node(NodeIndex(one))
    assert node is not None
    with refused("7.3/duplicate-encryption-key"):
        altered(tree, other, encryption_key=node.encryption_key).validate_structure()


def test_signature_key_that_two_members_have_is_refused() -> None:
    tree = filled_tree(SUITE, 8, signed=False).tree
    with refused("7.3/duplicate-signature-key"):
        altered(tree, 12, signature_key=member(tree, 0).signature_key).validate_structure()


def test_duplicate_key_is_not_hidden_by_blanking_one_of_the_two() -> None:
    tree = filled_tree(SUITE, 8, signed=False).tree
    key = member(tree, 2).encryption_key
    tree = altered(tree, 12, encryption_key=key)
    assert tree.leaf_of_encryption_key(key) == 2
    tree, _ = tree.changed({}, [LeafIndex(2)], ())
    assert tree.leaf_of_encryption_key(key) == 6
    tree, _ = tree.changed({}, [LeafIndex(6)], ())
    assert not tree.has_encryption_key(key)


@pytest.mark.parametrize("number", SUITES)
def test_key_of_a_parent_to_which_nothing_can_be_encrypted_is_found(number: int) -> None:
    suite = SUITES[number]
    tree = filled_tree(suite, 4, signed=False).tree
    tree.verify_parent_keys()
    for key in (b"", bytes(suite.kem.public_size), parent(tree, 1).encryption_key[1:]):
        with pytest.raises(MlsError, match="node 5") as caught:
            altered(tree, 5, encryption_key=key).verify_parent_keys()
        assert caught.value.reason == "5.1/invalid-public-key"


@pytest.mark.parametrize("number", range(1, 8))
def test_wrong_signature_of_any_leaf_is_found(number: int) -> None:
    made = filled_tree(SUITES[number], 3, group_id=b"ours")
    made.tree.verify_leaf_signatures(b"ours")
    with refused("7.3/leaf-signature"):
        made.tree.verify_leaf_signatures(b"theirs")
    swapped, _ = made.tree.changed({LeafIndex(1): member(made.tree, 2)}, (), ())
    with pytest.raises(MlsError, match="leaf 1"):
        swapped.verify_leaf_signatures(b"ours")


def test_signature_in_a_key_package_is_bound_to_no_group() -> None:
    made = blank_tree(SUITE, 3, group_id=b"ours")
    made.tree.verify_leaf_signatures(b"theirs")


@st.composite
def _hostile(draw: st.DrawFn) -> RatchetTree:
    """A sound tree in which any parents have been replaced, and any leaves blanked."""
    tree = draw(st.sampled_from(_SOUND))
    nodes = [tree.node(NodeIndex(index)) for index in range(2 * tree.leaf_count - 1)]
    last = max(leaf for leaf, _ in tree.members())
    for index in draw(st.lists(st.integers(0, 2 * last - 1), max_size=6)):
        below = leaves_under(NodeIndex(index))
        unmerged = tuple(sorted(draw(st.sets(st.sampled_from(below), max_size=5))))
        parent_hash = draw(st.sampled_from([b"", bytes(32)]))
        forged = ParentNode(draw(st.binary(min_size=1, max_size=2)), parent_hash, unmerged)
        nodes[index] = draw(st.sampled_from([None, forged])) if index & 1 else None
    return RatchetTree.decode(SUITE, ModelTree(nodes).encode())


_SOUND = [filled_tree(SUITE, count).tree for count in (4, 7, 13)]


def everything(tree: RatchetTree) -> None:
    tree.validate_structure()
    tree.verify_parent_hashes()
    tree.verify_leaf_signatures(b"group")


def _has_empty_child(tree: RatchetTree, node: NodeIndex) -> bool:
    return tree.parent(node) is not None and not all(map(tree.resolution, (left(node), right(node))))


@given(_hostile())
@settings(max_examples=200, deadline=None)
def test_no_tree_from_elsewhere_does_more_than_be_refused(tree: RatchetTree) -> None:
    with suppress(MlsError):
        tree.verify_parent_hashes()
    try:
        tree.validate_structure()
    except MlsError:
        return
    if any(_has_empty_child(tree, NodeIndex(node)) for node in range(1, 2 * tree.leaf_count - 1, 2)):
        return  # No path leads through such a parent (§4.1.2), so honest members have none.
    for leaf, _ in tree.members():
        changed, _ = tree.changed({}, [leaf], [fake_leaf(100), fake_leaf(101)])
        changed.validate_structure()
        assert read_all(RatchetTree.decode(SUITE, changed.encode())) == read_all(changed)


@given(st.sampled_from(_SOUND), st.data())
@settings(max_examples=200, deadline=None)
def test_altered_bytes_are_refused_or_another_tree(tree: RatchetTree, data: st.DataObject) -> None:
    encoded = bytearray(tree.encode())
    for place in data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1, max_size=3, unique=True)):
        encoded[place] ^= data.draw(st.integers(1, 255))
    with suppress(MlsError):
        read = RatchetTree.decode(SUITE, bytes(encoded))
        assert read.encode() == encoded
        assert read.tree_hash != tree.tree_hash
        # The hash of the tree is compared with that of the group; apart from it, only free fields may differ.
        everything(read)


def test_threads_find_the_same_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", 4)
    tree = filled_tree(SUITE, 40).tree
    for leaf in (35, 21):
        tree = altered(tree, 2 * leaf, signature=bytes(64))
    with ThreadPoolExecutor(2) as threads, pytest.raises(MlsError, match="leaf 21"):
        tree.verify_leaf_signatures(b"group", threads.map)
    with pytest.raises(MlsError, match="leaf 21"):
        tree.verify_leaf_signatures(b"group")
