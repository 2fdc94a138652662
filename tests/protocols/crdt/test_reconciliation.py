"""Keyed ranges: what a fingerprint is of, and that it follows the history."""

from itertools import pairwise
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.messages import SPLIT_BITS_MAX
from protocols.crdt.reconciliation import (
    SETS_MAX,
    KeyedSet,
    KeyedSets,
    first_bits,
    pack_ranges,
    pack_shorts,
    session_key,
    unpack_ranges,
    unpack_shorts,
)
from tests.protocols.crdt.peers import Author, Peer
from tests.protocols.crdt.worlds import World

KEY: Final = bytes(range(32))


def peer(count: int) -> tuple[Peer, Author]:
    world = World()
    held, author = Peer(world.channel, [world.genesis]), Author(world.keys[1])
    while len(held.history) < count:
        author.write(held, min(count - len(held.history), 64))
    return held, author


HELD, _ = peer(1000)
KEYED: Final = KeyedSet(HELD.history, KEY)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.integers(1, 6), st.data())
def test_a_fingerprint_is_the_sum_of_the_keys_in_its_range(depth: int, bits: int, data: st.DataObject) -> None:
    ranges = sorted(data.draw(st.sets(st.integers(0, (1 << depth) - 1), min_size=1, max_size=8)))
    shift = 64 - depth - bits
    expected = [
        sum(key for key in KEYED.keys if key >> shift == part) & (2**48 - 1)
        for each in ranges
        for part in range(each << bits, (each + 1) << bits)
    ]
    assert list(KEYED.fingerprints(depth, bits, ranges)) == expected


@given(st.integers(0, 12), st.data())
def test_a_range_is_listed_in_order_and_all_ranges_are_everything(depth: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, (1 << depth) - 1))
    listed = KEYED.within(depth, number)
    assert len(listed) == KEYED.count(depth, number)
    assert all(a < b for a, b in pairwise(listed))
    assert all(each >> 48 - depth == number for each in listed)
    if depth < 8:
        assert sum(KEYED.count(depth, each) for each in range(1 << depth)) == 1000


def test_every_operation_is_found_by_its_key_and_nothing_by_another() -> None:
    found = [KEYED.find(key >> 16) for key in KEYED.keys]
    assert {each.id for each in found if each is not None} == HELD.ids
    present = {key >> 16 for key in KEYED.keys}
    for other in (0, 2**48 - 1, *(each + 1 for each in sorted(present)[:50])):
        assert other in present or KEYED.find(other) is None


def test_a_set_follows_its_history() -> None:
    held, author = peer(100)
    keyed = KeyedSet(held.history, KEY)
    for size in (1, 3, 40):
        author.write(held, size)
        keyed.update()
        fresh = KeyedSet(held.history, KEY)
        assert keyed.keys == fresh.keys
        assert list(keyed.fingerprints(0, 6, [0])) == list(fresh.fingerprints(0, 6, [0]))
    assert len(keyed) == 144


def test_another_session_or_another_channel_has_other_keys() -> None:
    assert len({session_key(channel, binding) for channel in (KEY, bytes(32)) for binding in (KEY, bytes(32))}) == 4
    other = KeyedSet(HELD.history, bytes(32))
    assert not set(other.keys) & set(KEYED.keys)


def test_the_sets_of_few_sessions_are_held_and_those_used_last() -> None:
    sets = KeyedSets(HELD.history)
    first, *others = [sets.of(bytes([number] * 32)) for number in range(SETS_MAX)]
    assert sets.of(bytes(32)) is first
    sets.of(bytes([99] * 32))
    assert sets.of(bytes(32)) is first
    assert sets.of(bytes([1] * 32)) is not others[0]


def test_sets_are_cut_finer_the_larger_they_are_and_never_into_more_than_an_answer_holds() -> None:
    assert [first_bits(count) for count in (1, 10, 1000, 100_000, 10**6, 10**12)] == [4, 5, 8, 12, 13, SPLIT_BITS_MAX]


@given(st.lists(st.integers(0, 2**48 - 1)), st.lists(st.integers(0, 2**32 - 1)))
def test_packed_numbers_come_back(shorts: list[int], ranges: list[int]) -> None:
    assert unpack_shorts(pack_shorts(shorts)) == shorts
    assert list(unpack_ranges(pack_ranges(ranges))) == ranges
