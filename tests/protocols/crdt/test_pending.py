"""What waits, for what, and who gives way."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.crdt.bundles import BUNDLE_SIZE_MAX
from protocols.crdt.clock import AHEAD_NS_MAX, NS_PER_MS, clock_at
from protocols.crdt.pending import (
    PENDING_COUNT_MAX,
    PENDING_NS_MAX,
    PENDING_SIZE_MAX,
    SENDER_COUNT_MAX,
    SENDER_SIZE_MAX,
    SENDER_WANTED_MAX,
    WANTED_MAX,
    Evicted,
    Pending,
    Unit,
)
from protocols.errors import LocalError

ADA, BOB = b"a" * 32, b"b" * 32


def name(number: int) -> bytes:
    return sha256(b"operation %d" % number).digest()


def unit(number: int, size: int = 8) -> bytes:
    return number.to_bytes(8, "big").ljust(size, b"\0")


def parked(*numbers: int, sender: bytes = ADA, size: int = 8) -> Pending:
    """Each waits for the operation of its number."""
    pending = Pending()
    for number in numbers:
        pending.park(unit(number, size), sender, 0, missing=[name(number)])
    return pending


def test_a_unit_is_released_when_all_that_it_misses_is_here() -> None:
    pending = Pending()
    pending.park(b"two", ADA, 0, missing=[name(1), name(2)])
    pending.park(b"one", BOB, 0, missing=[name(2)])
    assert pending.released(name(2)) == [Unit(b"one", BOB)]
    assert pending.released(name(2)) == []
    assert pending.missing == (name(1),)
    assert pending.released(name(1)) == [(b"two", ADA)]
    assert len(pending) == len(pending.missing) == 0


def test_units_that_waited_for_the_same_come_oldest_first() -> None:
    pending = Pending()
    for number in (3, 1, 2):
        pending.park(unit(number), ADA, 0, missing=[name(0)])
    assert [each.data for each in pending.released(name(0))] == [unit(3), unit(1), unit(2)]


def test_a_unit_that_comes_twice_is_kept_once_and_is_its_first_senders() -> None:
    pending = parked(1)
    pending.park(unit(1), BOB, 5, missing=[name(1)])
    assert pending.released(name(1)) == [Unit(unit(1), ADA)]
    assert pending.released(name(1)) == []


def test_what_is_ahead_comes_when_its_time_is_believed() -> None:
    pending, clock = Pending(), clock_at(7 * 60 * 10**9) + 3
    pending.park(b"later", ADA, 0, until_clock=clock)
    due_ns = 7 * 60 * 10**9 + NS_PER_MS - AHEAD_NS_MAX
    assert pending.deadline == due_ns
    assert not pending.missing
    assert pending.due(due_ns - 1) == []
    assert pending.due(due_ns) == [Unit(b"later", ADA)]
    assert pending.evicted() == []
    assert Pending().deadline is None


def test_what_is_ahead_and_misses_something_waits_for_both() -> None:
    hour_ns = 3600 * 10**9
    for missing_first in (True, False):
        pending = Pending()
        pending.park(b"both", ADA, hour_ns, missing=[name(1)], until_clock=clock_at(hour_ns + 6 * 60 * 10**9))
        if missing_first:
            assert pending.released(name(1)) == []
            assert pending.deadline == hour_ns + 60 * 10**9
            assert pending.due(hour_ns) == []
        else:
            assert pending.due(hour_ns + 60 * 10**9) == []
            assert pending.deadline == hour_ns + PENDING_NS_MAX
            assert pending.released(name(1)) == []
        assert pending.due(hour_ns + 60 * 10**9) == [Unit(b"both", ADA)]


def test_all_that_a_bundle_depends_on_can_be_missing() -> None:
    pending, missing = Pending(), [name(number) for number in range(64 * 32 + 1)]
    pending.park(b"all", ADA, 0, missing=missing, ids=[name(-1 - number) for number in range(64)])
    assert len(Pending.from_bytes(pending.to_bytes())) == 1
    assert [pending.released(each) for each in missing] == [[]] * (64 * 32) + [[Unit(b"all", ADA)]]


@given(st.integers(1, 2**40), st.integers(0, 3))
@settings(max_examples=50)
def test_the_deadline_is_the_first_time_at_which_something_is_due(now_ns: int, counter: int) -> None:
    pending = Pending()
    pending.park(b"later", ADA, now_ns, until_clock=clock_at(now_ns + AHEAD_NS_MAX + NS_PER_MS) + counter)
    deadline = pending.deadline
    assert deadline is not None
    assert pending.due(deadline - 1) == []
    assert len(pending.due(deadline)) == 1


def test_what_is_taken_away_moves_the_deadline_when_it_is_there() -> None:
    pending = parked(1)
    pending.park(unit(2), BOB, 5, missing=[name(2)])
    pending.released(name(1))
    assert pending.deadline == PENDING_NS_MAX
    assert pending.due(PENDING_NS_MAX) == []
    assert pending.deadline == PENDING_NS_MAX + 5
    pending.released(name(2))
    assert pending.deadline is None


def test_what_never_comes_is_given_up_and_nobody_is_charged() -> None:
    pending = parked(1)
    pending.park(b"far", BOB, 1, until_clock=2**62)
    assert pending.deadline == PENDING_NS_MAX
    assert pending.due(PENDING_NS_MAX - 1) == []
    assert len(pending) == 2
    assert pending.due(PENDING_NS_MAX) == []
    assert len(pending) == 1
    assert pending.due(PENDING_NS_MAX + 1) == []
    assert len(pending) == 0
    assert pending.evicted() == []
    assert pending.released(name(1)) == []


def test_a_sender_with_too_many_units_loses_its_oldest_and_nobody_else_does() -> None:
    pending = parked(0, sender=BOB)
    for number in range(1, SENDER_COUNT_MAX + 4):
        pending.park(unit(number), ADA, 0, missing=[name(number)])
    assert pending.evicted() == [Evicted(ADA, 3)]
    assert not any(pending.released(name(number)) for number in range(1, 4))
    assert all(pending.released(name(number)) for number in (0, *range(4, SENDER_COUNT_MAX + 4)))


def test_a_sender_with_too_many_bytes_loses_its_oldest() -> None:
    count = SENDER_SIZE_MAX // BUNDLE_SIZE_MAX
    pending = parked(*range(count), size=BUNDLE_SIZE_MAX)
    assert pending.evicted() == [Evicted(ADA, 1)]
    assert pending.released(name(0)) == []
    assert len(pending) == count - 1


def test_when_all_is_full_who_holds_most_gives_way() -> None:
    pending = parked(0, sender=BOB)
    greedy = [bytes([number]) * 32 for number in range(PENDING_COUNT_MAX // SENDER_COUNT_MAX)]
    for number in range(1, PENDING_COUNT_MAX + 1):
        pending.park(unit(number), greedy[number % len(greedy)], 0, missing=[name(number)])
    assert len(pending) == PENDING_COUNT_MAX
    evicted = pending.evicted()
    assert sum(each.count for each in evicted) == 1
    assert evicted[0].sender in greedy
    assert pending.released(name(0)) == [Unit(unit(0), BOB)]


def test_when_all_bytes_are_taken_who_has_most_of_them_gives_way() -> None:
    pending = parked(*range(3), sender=BOB)
    for number in range(3, 3 + PENDING_SIZE_MAX // BUNDLE_SIZE_MAX):
        sender = ADA if number < 5 else number.to_bytes(32, "big")
        pending.park(unit(number, BUNDLE_SIZE_MAX), sender, 0, missing=[name(number)])
    assert pending.evicted() == [Evicted(ADA, 1)], "of fewer units than BOB, and more bytes"
    assert pending.released(name(0)) == [Unit(unit(0), BOB)]
    assert pending.released(name(3)) == []


def test_small_units_that_name_much_are_not_free() -> None:
    pending = Pending()
    for number in range(SENDER_COUNT_MAX):
        ids = [name(64 * number + index) for index in range(64)]
        pending.park(unit(number), ADA, 0, missing=[name(64 * number + index - 1) for index in range(33)], ids=ids)
    assert sum(each.count for each in pending.evicted()) > 0


def test_what_another_unit_has_is_not_asked_for() -> None:
    pending = Pending()
    pending.park(b"third", ADA, 0, missing=[name(2)], ids=[name(3)])
    assert pending.missing == (name(2),)
    pending.park(b"second", BOB, 0, missing=[name(1)], ids=[name(2)])
    assert pending.missing == (name(1),)
    assert pending.missing_of(ADA) == ()
    assert pending.missing_of(BOB) == (name(1),)
    assert pending.released(name(1)) == [Unit(b"second", BOB)]
    assert pending.missing == pending.missing_of(ADA) == (name(2),)


def test_what_two_units_had_is_asked_for_when_both_are_gone() -> None:
    pending = Pending()
    pending.park(b"third", ADA, 0, missing=[name(2)])
    pending.park(b"second, whole", ADA, 0, missing=[name(0)], ids=[name(1), name(2)])
    pending.park(b"second, alone", ADA, 0, missing=[name(1)], ids=[name(2)])
    pending.released(name(0))
    assert pending.missing == (name(1),)
    pending.released(name(1))
    assert pending.missing == (name(2),)


def test_who_names_what_does_not_exist_does_not_keep_others_from_asking() -> None:
    pending = Pending()
    for number in range(SENDER_WANTED_MAX):
        pending.park(unit(number), ADA, 0, missing=[name(100 * number + index) for index in range(33)])
    pending.park(b"honest", BOB, 0, missing=[name(10**6)])
    assert len(pending.missing) == SENDER_WANTED_MAX + 1
    assert pending.missing[0] == name(0), "oldest first"
    assert pending.missing[-1] == name(10**6)
    assert len(pending.missing_of(ADA)) == SENDER_WANTED_MAX
    for number in range(20):
        for index in range(4):
            missing = [name(10**7 + 1000 * number + 33 * index + each) for each in range(33)]
            pending.park(unit(10**6 + 10 * number + index), bytes([number]) * 32, 0, missing=missing)
    assert len(pending.missing) == WANTED_MAX


@pytest.mark.parametrize(
    ("data", "missing", "until_clock", "ids"),
    [
        (b"for nothing", [], 0, []),
        (b"too much missing", [name(number) for number in range(64 * 32 + 2)], 0, []),
        (b"too many operations", [name(1)], 0, [name(number) for number in range(65)]),
        (bytes(BUNDLE_SIZE_MAX + 1000), [name(1)], 0, []),
    ],
)
def test_what_is_no_unit_that_waits_is_our_own_fault(
    data: bytes, missing: Sequence[bytes], until_clock: int, ids: Sequence[bytes]
) -> None:
    pending = Pending()
    with pytest.raises(LocalError):
        pending.park(data, ADA, 0, missing=missing, until_clock=until_clock, ids=ids)
    assert len(pending) == 0
    assert pending.to_bytes() == Pending().to_bytes()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("missing"), st.integers(0, 9), st.lists(st.integers(0, 5), min_size=1, max_size=3)),
        st.tuples(st.just("ahead"), st.integers(0, 9), st.integers(1, 20)),
        st.tuples(st.just("both"), st.integers(0, 9), st.integers(1, 20)),
        st.tuples(st.just("came"), st.integers(0, 5), st.none()),
        st.tuples(st.just("time"), st.integers(0, 20), st.none()),
    ),
    max_size=20,
)


def _step(pending: Pending, step: tuple[str, int, object]) -> object:
    kind, number, more = step
    sender, minute_ns = bytes([number % 3]) * 32, 60 * 10**9
    match kind, more:
        case "missing", list():
            pending.park(unit(number), sender, 0, missing=[name(each) for each in more], ids=[name(number)])
        case "ahead", int():
            pending.park(unit(number), sender, 0, until_clock=clock_at(more * minute_ns))
        case "both", int():
            pending.park(unit(number), sender, 0, missing=[name(more % 6)], until_clock=clock_at(more * minute_ns))
        case "came", _:
            return pending.released(name(number))
        case _:
            return pending.due(number * minute_ns)
    return None


@given(STEPS, STEPS)
@settings(max_examples=60)
def test_stored_and_loaded_it_goes_on_as_before(
    before: list[tuple[str, int, object]], after: list[tuple[str, int, object]]
) -> None:
    pending = Pending()
    for step in before:
        _step(pending, step)
    data = pending.to_bytes()
    loaded = Pending.from_bytes(data)
    assert loaded.to_bytes() == data
    for step in after:
        assert _step(loaded, step) == _step(pending, step)
        assert loaded.missing == pending.missing
        assert loaded.deadline == pending.deadline
    assert loaded.to_bytes() == pending.to_bytes()
    assert loaded.evicted() == pending.evicted()


@given(STEPS)
@settings(max_examples=60)
def test_nothing_is_left_in_the_tables_when_all_has_gone(steps: list[tuple[str, int, object]]) -> None:
    pending = Pending()
    for step in steps:
        _step(pending, step)
    pending.due(10 * PENDING_NS_MAX)
    pending.evicted()
    assert pending.to_bytes() == Pending().to_bytes()
    assert pending._size == 0
    assert not any((pending._units, pending._shares, pending._waiting, pending._carried))


@pytest.mark.parametrize("data", [b"", b"\x92\xaccrdt.pending\x01", Pending().to_bytes() + b"\0"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(LocalError):
        Pending.from_bytes(data)


def test_another_version_is_refused() -> None:
    data = Pending().to_bytes()
    at = data.index(b"crdt.pending") + len(b"crdt.pending")
    with pytest.raises(LocalError, match="version 2"):
        Pending.from_bytes(data[:at] + b"\x02" + data[at + 1 :])
