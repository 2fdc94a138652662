import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.crdt.clock import (
    AHEAD_NS_MAX,
    CLOCK_MAX,
    COUNTER_BITS,
    NS_PER_MS,
    clock_at,
    is_ahead,
    next_clock,
    time_ns,
)

NOW_NS = 1_800_000_000 * 10**9
TIMES = st.integers(0, 2**62)
CLOCKS = st.integers(1, CLOCK_MAX - 1)


@given(TIMES, st.lists(CLOCKS, max_size=5))
def test_next_clock_is_later_than_all_that_was_seen_and_no_earlier_than_now(now_ns: int, seen: list[int]) -> None:
    clock = next_clock(now_ns, seen)
    assert all(clock > each for each in seen)
    assert clock >= clock_at(now_ns)
    assert clock in (clock_at(now_ns), 1, *(each + 1 for each in seen))


def test_a_clock_that_was_set_back_does_not_turn_back_the_order() -> None:
    first = next_clock(NOW_NS, ())
    assert next_clock(NOW_NS - 3600 * 10**9, [first]) == first + 1


@given(TIMES)
def test_a_clock_stands_for_the_millisecond_in_which_it_was_made(now_ns: int) -> None:
    assert time_ns(clock_at(now_ns)) == now_ns // NS_PER_MS * NS_PER_MS


def test_a_millisecond_with_more_operations_than_its_counter_runs_into_the_next() -> None:
    last = clock_at(NOW_NS) + 2**COUNTER_BITS - 1
    assert time_ns(last) == NOW_NS
    assert time_ns(next_clock(NOW_NS, [last])) == NOW_NS + NS_PER_MS


@pytest.mark.parametrize("ahead_ns", [-(10**15), 0, AHEAD_NS_MAX])
def test_five_minutes_ahead_is_believed(ahead_ns: int) -> None:
    assert not is_ahead(clock_at(NOW_NS + ahead_ns), NOW_NS)


def test_more_than_five_minutes_ahead_waits() -> None:
    clock = clock_at(NOW_NS + AHEAD_NS_MAX + NS_PER_MS)
    assert is_ahead(clock, NOW_NS)
    assert is_ahead(CLOCK_MAX, NOW_NS)
    assert not is_ahead(clock, NOW_NS + NS_PER_MS)


def test_an_honest_clock_fits_the_wire_for_centuries() -> None:
    assert clock_at(4_000 * 366 * 86_400 * 10**9) < CLOCK_MAX
