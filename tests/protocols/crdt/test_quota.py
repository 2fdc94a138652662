"""The allowance of an author, against a bucket that is filled and emptied by hand."""

from collections.abc import Sequence
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.changes import Increment, Role
from protocols.crdt.clock import COUNTER_BITS
from protocols.crdt.errors import CrdtError
from protocols.crdt.history import Held, History
from protocols.crdt.operations import NOTHING
from protocols.crdt.quota import Quota
from protocols.errors import LocalError
from tests.protocols.crdt.worlds import World, Written, causal

MS = 1 << COUNTER_BITS
BURST, RATE_PER_S = 4, 100


class Limited:
    """A history that takes what the quota allows, and what depends on nothing else."""

    def __init__(self, world: World, burst: int = BURST, rate_per_s: int = RATE_PER_S) -> None:
        self.history = History(world.channel)
        self.quota = Quota(burst, rate_per_s)
        self.refused: list[bytes] = []

    def place(self, written: Written) -> Held:
        return self.history.place(written.operation, written.seal, None)

    def take(self, written: Written) -> bool:
        if {written.operation.previous, *written.operation.dependencies} & set(self.refused):
            self.refused.append(written.id)
            return False
        held = self.place(written)
        try:
            self.quota.check(self.history, held)
        except CrdtError:
            self.refused.append(written.id)
            return False
        self.history.add(held)
        self.quota.added(held)
        return True

    def take_all(self, written: Sequence[Written]) -> list[bool]:
        return [self.take(each) for each in written]


def write(world: World, clock_ms: int, previous: Written | None = None, by: int = 1, author: int = 1) -> Written:
    """The next of an author's, with nothing seen."""
    before = previous or world.tip(author) or world.genesis
    return world.write(
        author,
        Increment(("n",), by),
        [] if world.tip(author) else [world.genesis],
        previous,
        clock=max(clock_ms * MS, before.operation.clock + 1),
    )


@st.composite
def spurts(draw: st.DrawFn) -> World:
    """One author in a hurry, on several branches."""
    world = World(Role.OWNER, Role.MEMBER)
    mine: list[Written] = []
    for back, later_ms in draw(
        st.lists(st.tuples(st.sampled_from((0, 0, 0, 0, 2, 5)), st.sampled_from((0, 0, 3, 10, 25))), max_size=16)
    ):
        previous = mine[-1 - back % len(mine)] if mine else None
        time_ms = (previous.operation.clock >> COUNTER_BITS) + later_ms if previous else 1
        mine.append(write(world, time_ms, previous, by=len(mine)))
    return world


@given(spurts(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_allowance_follows_from_the_chain_whatever_the_order_of_arrival(world: World, random: Random) -> None:
    left: dict[bytes, Fraction] = {}
    times: dict[bytes, int] = {}
    for each in world.written:
        operation, time_ms = each.operation, each.operation.clock >> COUNTER_BITS
        before = left.get(operation.previous, Fraction(BURST))
        passed_ms = time_ms - times.get(operation.previous, time_ms)
        left[each.id] = min(before + Fraction(passed_ms * RATE_PER_S, 1000), Fraction(BURST)) - 1
        if before < 0:
            left[each.id] = Fraction(-1)
        times[each.id] = time_ms
    ranks = list(range(len(world.written)))
    random.shuffle(ranks)
    for order in (world.written, causal(world.written, ranks)):
        limited = Limited(world)
        limited.take_all(order)
        assert {held.id for held in limited.history} == {each for each in left if left[each] >= 0}


def test_a_burst_is_taken_and_the_next_comes_with_time() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    assert limited.take_all([write(world, 1, by=number) for number in range(BURST)]) == [True] * BURST
    last = world.tip(1)
    assert not limited.take(write(world, 10, last))
    assert limited.take(write(world, 11, last)), "10 ms at 100 a second"


def test_a_pause_gives_no_more_than_the_burst() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    limited.take(write(world, 1))
    late = [write(world, 10**6, by=number) for number in range(BURST + 1)]
    assert limited.take_all(late) == [True] * BURST + [False]
    branch = [write(world, 10**6, world.written[1] if by == 10 else None, by) for by in range(10, 11 + BURST)]
    assert limited.take_all(branch) == [True] * BURST + [False]


def test_dating_back_gains_nothing() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    honest = [write(world, 1000 + number) for number in range(100)]
    taken = limited.take_all(honest)
    back = World(Role.OWNER, Role.MEMBER)
    other = Limited(back)
    other.take(back.genesis)
    early = [write(back, 10 * number) for number in range(110)]
    assert sum(taken) < sum(other.take_all(early)) <= BURST + 1100 * RATE_PER_S // 1000


def test_a_branch_has_what_was_left_where_it_parts() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    chain = [write(world, 1, by=number) for number in range(BURST)]
    limited.take_all(chain)
    parted = [write(world, 1, chain[1], by=7), write(world, 1, None, by=8), write(world, 1, None, by=9)]
    assert limited.take_all(parted) == [True, True, False]


def test_a_check_that_fails_leaves_all_as_it_was() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    limited.take_all([write(world, 1, by=number) for number in range(BURST)])
    last = world.tip(1)
    for by in range(3):
        assert not limited.take(write(world, 1, last, by=by))
    assert limited.take(write(world, 11, last))
    assert len(limited.history) == 2 + BURST


def test_a_bundle_has_room_as_a_whole_or_not_at_all() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    limited.take(world.genesis)
    limited.take(write(world, 1))
    held = limited.place(write(world, 1))
    limited.quota.check_room(limited.history, held, BURST - 1)
    with pytest.raises(CrdtError, match="over_quota"):
        limited.quota.check_room(limited.history, held, BURST)


def test_what_follows_a_checked_operation_can_be_added_without_a_check_of_its_own() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    checked, other = Limited(world), Limited(world)
    written = [world.genesis, *(write(world, 1 + number, by=number) for number in range(3))]
    checked.take_all(written)
    for each in written:
        held = other.place(each)
        if each.operation.previous == NOTHING:
            other.quota.check(other.history, held)
        other.history.add(held)
        other.quota.added(held)
    following = [write(world, 4, by=number) for number in range(BURST)]
    assert checked.take_all(following) == other.take_all(following)


def test_a_lane_that_begins_is_checked_first() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited = Limited(world)
    with pytest.raises(LocalError, match="begins a lane"):
        limited.quota.added(limited.place(world.genesis))


def test_a_lane_resumes_with_what_was_left() -> None:
    world = World(Role.OWNER, Role.MEMBER)
    limited, resumed = Limited(world), Quota(BURST, RATE_PER_S)
    limited.take_all([world.genesis, write(world, 1)])
    for lane in limited.history.lanes:
        held = lane.operations[0]
        resumed.resume(limited.quota.left(limited.history, held), held)
    following = limited.place(write(world, 1))
    resumed.check(limited.history, following)
    resumed.added(following)
    limited.history.add(following)
    assert resumed.left(limited.history, following) == (BURST - 2) * 1000
