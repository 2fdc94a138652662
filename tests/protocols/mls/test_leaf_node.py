import tracemalloc

import pytest

from protocols.mls.codec import decode, opaque
from protocols.mls.leaf_node import INTERNED_SIZE_MAX, Capabilities, LeafNode
from tests.protocols.mls.kit import client

ALICE = client("alice")


def test_equal_capabilities_of_two_leaves_are_one_object() -> None:
    leaves = [decode(LeafNode.read, client(name).leaf.encode()) for name in ("alice", "bob")]
    assert leaves[0] != leaves[1]
    assert leaves[0].capabilities is leaves[1].capabilities


def test_lists_of_capabilities_with_the_same_bytes_in_other_places_are_different() -> None:
    one, other = Capabilities((1,), (2,), (), (), ()), Capabilities((1,), (), (2,), (), ())
    assert [decode(Capabilities.read, each.encode()) for each in (one, other)] == [one, other]


def test_signature_of_a_key_package_leaf_is_good_for_any_place_and_of_others_for_one() -> None:
    """§7.2: group id and leaf index are signed unless the source is a key package."""
    assert ALICE.leaf.to_be_signed(b"group", 3) == ALICE.leaf.to_be_signed(b"other", 4)
    for leaf in (ALICE.update(3), ALICE.path_leaf(3)):
        signed = {leaf.to_be_signed(group_id, index) for group_id in (b"group", b"other") for index in (0, 3)}
        assert len(signed) == 4


def test_signature_covers_every_field_but_itself() -> None:
    for leaf in (ALICE.leaf, ALICE.update(3), ALICE.path_leaf(3, b"parent hash")):
        assert leaf.encode() == leaf.unsigned() + opaque(leaf.signature)


@pytest.mark.parametrize("read_back", [False, True])
def test_long_capabilities_of_strangers_are_not_kept(read_back: bool) -> None:
    """A key package is parsed before anything of it is believed: 1,024 of a megabyte each would stay for good."""

    def kept_after(seed: int) -> int:
        lists = Capabilities(extensions=tuple(range(seed, seed + 10_000)))
        if read_back:
            decode(Capabilities.read, lists.encode())
        else:
            lists.encode()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        kept = [kept_after(seed) for seed in range(10)]
    finally:
        tracemalloc.stop()
    assert kept[-1] - kept[0] < 20_000


@pytest.mark.parametrize("numbers", [0, 1, INTERNED_SIZE_MAX // 2 - 1, INTERNED_SIZE_MAX // 2, 40_000])
def test_capabilities_of_any_length_are_read_as_they_were_written(numbers: int) -> None:
    lists = Capabilities(proposals=tuple(range(numbers)), credentials=())
    assert decode(Capabilities.read, lists.encode()) == lists
