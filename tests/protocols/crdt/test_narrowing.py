"""The asking side of ranges, one question at a time."""

from itertools import pairwise
from typing import Final

import pytest

from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import DEPTH_MAX, FINGERPRINTS_MAX, LISTED_MAX, WANTED_MAX, List, Split
from protocols.crdt.narrowing import LISTED_AT_ONCE, SHARE_MIN, Narrowing
from protocols.crdt.reconciliation import pack_ranges, pack_shorts, unpack_ranges
from tests.protocols.crdt.peers import BINDING, pair

CHANNEL: Final = bytes(32)
HELD: Final = pair(2, 640)[0]
KEYED: Final = HELD.sets.of(BINDING)


def shorts(*, depth: int = 0, number: int = 0) -> list[int]:
    return KEYED.within(depth, number)


def test_a_small_set_is_listed_at_once_and_a_large_one_cut_first() -> None:
    assert Narrowing().question(CHANNEL, LISTED_AT_ONCE - 1) == List(CHANNEL, 0, bytes(4))
    assert Narrowing().question(CHANNEL, 10**6) == Split(CHANNEL, 0, 13, bytes(4))
    assert Narrowing(count=10**6).question(CHANNEL, 1) == Split(CHANNEL, 0, 13, bytes(4))


def test_few_ranges_are_listed_and_many_are_cut_until_little_is_in_each() -> None:
    few, many = Narrowing.of(100_000, 12), Narrowing.of(100_000, 12)
    few.narrow(list(range(0, 4000, 20)))
    question = few.question(CHANNEL, 100_000)
    assert isinstance(question, List)
    assert len(unpack_ranges(question.ranges)) == 200
    many.narrow(list(range(2000)))
    depths, asked = [], 0
    while isinstance(question := many.question(CHANNEL, 100_000), Split):
        ranges = unpack_ranges(question.ranges)
        assert len(ranges) << question.bits <= FINGERPRINTS_MAX
        depths.append(question.depth)
        many.narrow([each << question.bits for each in ranges[:500]])
        asked += 1
        assert asked < 10
    assert depths == sorted(depths)
    assert isinstance(question, List)
    assert 100_000 >> question.depth <= LISTED_AT_ONCE // 500 + SHARE_MIN


def test_what_is_listed_is_compared_with_what_is_here() -> None:
    ranges, ours = Narrowing(), shorts()
    ranges.question(CHANNEL, len(KEYED))
    theirs = sorted({*ours[:-2], 1, 2})
    ranges.listed(1, pack_shorts(theirs), KEYED)
    assert ranges.wanted == [1, 2]
    assert ranges.surplus == [held.id for each in ours[-2:] if (held := KEYED.find(each)) is not None]
    assert ranges.question(CHANNEL, len(KEYED)) is None
    assert not ranges.is_cut


def test_what_was_too_long_to_list_is_halved_and_given_up_at_the_end() -> None:
    ranges = Narrowing()
    for depth in range(DEPTH_MAX + 1):
        assert ranges.question(CHANNEL, 100) == List(CHANNEL, depth, pack_ranges([0, 1] if depth else [0]))
        ranges.listed(0, b"", KEYED)
        if depth < DEPTH_MAX:
            assert ranges.open[-1] == (depth + 1, [0, 1])
    assert ranges.is_cut
    assert ranges.open[-1] == (DEPTH_MAX, [1])


def test_no_more_is_found_than_one_exchange_moves() -> None:
    ranges = Narrowing.of(100, 1)
    ranges.narrow([0, 1])
    for number in (0, 1):
        ranges.asked = (1, 0, [number])
        start = (number << 47) + 1
        ranges.listed(1, pack_shorts(range(start, start + LISTED_MAX)), KEYED)
    assert len(ranges.wanted) == WANTED_MAX
    assert ranges.is_cut
    assert len(ranges.surplus) == len(KEYED)
    ranges.open = [(1, [0])]
    assert ranges.question(CHANNEL, 100) is None


@pytest.mark.parametrize(
    ("done", "keys"),
    [(2, []), (1, [2, 1]), (1, [1, 1]), (0, [1]), (1, [2**47])],
    ids=["more ranges", "descending", "twice", "of no range", "of another range"],
)
def test_keys_that_were_not_asked_for_are_refused_and_change_nothing(done: int, keys: list[int]) -> None:
    ranges = Narrowing(open=[(1, [0])], asked=(1, 0, [0]))
    with pytest.raises(CrdtError, match="bad_answer"):
        ranges.listed(done, pack_shorts(keys), KEYED)
    assert ranges == Narrowing(open=[(1, [0])], asked=(1, 0, [0]))


def test_fingerprints_are_as_many_as_were_asked_for() -> None:
    ranges = Narrowing.of(641, 3)
    prints = pack_shorts(KEYED.fingerprints(0, 3, [0]))
    assert ranges.differing(prints, KEYED) == []
    assert ranges.differing(bytes(6) + prints[6:-6] + bytes(6), KEYED) == [0, 7]
    for wrong in (b"", prints[:-1], prints + bytes(6)):
        with pytest.raises(CrdtError, match="bad_answer"):
            ranges.differing(wrong, KEYED)
    assert all(a < b for a, b in pairwise(shorts(depth=3, number=2)))
