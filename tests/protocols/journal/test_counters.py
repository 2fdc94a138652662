"""No number twice, whatever is lost, repeated or reordered."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.journal import Counters, JournalError
from protocols.journal.counters import NUMBER_MAX
from tests.protocols.journal.kit import NOW, Peer, entries

NAMES = (b"a", b"b", b"c")


def replayed(*payloads: bytes) -> Counters:
    counters = Counters()
    for payload in payloads:
        counters.apply(payload)
    return counters


def test_numbers_follow_one_another_and_names_do_not_share_them() -> None:
    counters = Counters()
    assert counters.reserve(b"a", 3).numbers == range(3)
    assert counters.reserve(b"a").numbers == range(3, 4)
    assert counters.reserve(b"b").numbers == range(1)


def test_what_a_crash_left_of_a_block_is_skipped() -> None:
    counters = Counters()
    block = counters.reserve(b"a", 100)
    assert replayed(block.entry.payload).reserve(b"a").first == 100


def test_entries_apply_in_any_order_and_again() -> None:
    counters = Counters()
    made = [counters.reserve(b"a", 5), counters.reserve(b"b", 2), counters.reserve(b"a", 1)]
    payloads = [each.entry.payload for each in made]
    for order in permutations(payloads):
        assert replayed(*order, *order) == counters


def test_a_name_in_doubt_is_not_reserved_before_it_is_confirmed() -> None:
    counters = Counters()
    counters.reserve(b"a", 3)
    counters.doubt()
    before = counters.to_bytes()
    with pytest.raises(LocalError, match="in doubt"):
        counters.reserve(b"a")
    assert counters.to_bytes() == before
    counters.confirm({b"a": 10})
    assert counters.reserve(b"a").first == 10


def test_a_witness_who_saw_less_lowers_nothing() -> None:
    counters = Counters()
    counters.reserve(b"a", 30)
    counters.doubt()
    counters.confirm({b"a": 10})
    assert counters.reserve(b"a").first == 30


def test_a_name_that_nobody_remembers_is_in_doubt_too() -> None:
    counters = Counters()
    counters.doubt()
    with pytest.raises(LocalError, match="in doubt"):
        counters.reserve(b"forgotten")
    counters.renew(b"fresh key")
    assert counters.reserve(b"fresh key").first == 0
    assert counters.in_doubt(b"forgotten")


def test_a_second_doubt_asks_everybody_again() -> None:
    counters = Counters()
    counters.doubt()
    counters.confirm({b"a": 1})
    counters.doubt()
    assert counters.in_doubt(b"a")


def test_doubts_and_what_settled_them_are_recovered() -> None:
    counters = Counters()
    payloads = [counters.reserve(b"a", 3).entry.payload, counters.doubt().payload]
    payloads += [each.payload for each in counters.confirm({b"b": 4})]
    for again in (*(replayed(*order) for order in permutations(payloads)), Counters.from_bytes(counters.to_bytes())):
        assert again == counters
        assert (again.in_doubt(b"a"), again.in_doubt(b"b"), again.following(b"b")) == (True, False, 4)


def test_counters_come_back_from_their_stream_and_in_doubt_after_an_unclean_end() -> None:
    peer = Peer()
    stream, recovery = peer.journal.open_stream(b"counters")
    counters, doubts = Counters.recover(recovery)
    assert doubts == []
    stream.append([counters.reserve(b"a", 5).entry], NOW)
    stream.snapshot(counters.to_bytes())
    stream.append([counters.reserve(b"a", 5).entry], NOW)
    peer.close()
    recovered, doubts = Counters.recover(peer.recovered(b"counters"))
    assert (recovered, doubts) == (counters, [])

    peer = peer.opened_again()
    stream, recovery = peer.journal.open_stream(b"counters")
    counters, _ = Counters.recover(recovery)
    stream.append([counters.reserve(b"a", 7).entry], NOW)
    peer.flush()
    peer = peer.opened_again()
    stream, recovery = peer.journal.open_stream(b"counters")
    counters, doubts = Counters.recover(recovery)
    assert counters.in_doubt(b"a")
    stream.append(doubts, NOW)
    stream.settle()
    peer.close()
    counters, doubts = Counters.recover(peer.recovered(b"counters"))
    assert (doubts, counters.in_doubt(b"a"), counters.following(b"a")) == ([], True, 17)


def test_a_stream_of_counters_has_nothing_else() -> None:
    peer = Peer()
    peer.stream(b"counters").append(entries(b"x"), NOW)
    peer.flush()
    with pytest.raises(JournalError) as caught:
        Counters.recover(peer.recovered(b"counters"))
    assert caught.value.reason == "bad_counter"


@pytest.mark.parametrize("count", [0, -1, NUMBER_MAX - 2])
def test_no_such_block_is_given_out(count: int) -> None:
    counters = Counters()
    counters.reserve(b"a", 3)
    before = counters.to_bytes()
    with pytest.raises(LocalError):
        counters.reserve(b"a", count)
    assert counters.to_bytes() == before


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters()
    for name in (b"", bytes(97)):
        with pytest.raises(LocalError):
            counters.reserve(name)
    monkeypatch.setattr("protocols.journal.counters.COUNTERS_MAX", 1)
    counters.reserve(b"a")
    with pytest.raises(LocalError, match="at most"):
        counters.reserve(b"b")
    with pytest.raises(LocalError, match="at most"):
        counters.confirm({b"a": 5, b"b": 0})
    assert counters.following(b"a") == 1
    counters.reserve(b"a")


@pytest.mark.parametrize("payload", [b"", b"\x93\xc4\x01a\x01", b"\x93\xc4\x01a\xff\x00", b"\x94\xc4\x01a\x01\x00\x00"])
def test_what_is_no_entry_is_refused(payload: bytes) -> None:
    counters = Counters()
    with pytest.raises(JournalError) as caught:
        counters.apply(payload)
    assert caught.value.reason == "bad_counter"
    assert counters == Counters()


def test_what_is_no_state_is_refused() -> None:
    state = Counters().to_bytes()
    for data, reason in ((b"", "bad_counter"), (state + b"\0", "bad_counter"), (b"\x93\x02\x00\x90", "version")):
        with pytest.raises(JournalError) as caught:
            Counters.from_bytes(data)
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    "counters",
    [[(b"a", 5, 0), (b"a", 2, 0)], [(b"b", 5, 0), (b"a", 2, 0)], [(b"a", 5, 2)], [(b"", 5, 0)]],
    ids=["lower the second time", "not in order", "settled of doubts to come", "no name"],
)
def test_a_state_that_contradicts_itself_is_refused(counters: list[tuple[bytes, int, int]]) -> None:
    with pytest.raises(JournalError, match="contradict") as caught:
        Counters.from_bytes(msgspec.msgpack.encode((1, 1, counters)))
    assert caught.value.reason == "bad_counter"


STEPS = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 9), st.integers(0, 3)), max_size=30)


@settings(max_examples=100, deadline=None)
@given(steps=STEPS, order=st.randoms(use_true_random=False))
def test_whatever_is_durable_when_it_stops_no_number_is_used_twice(steps: list[tuple[bytes, int, int]], order) -> None:  # type: ignore[no-untyped-def]
    """A number is used once its entry is durable. Then the next incarnation begins, from those entries in any order."""
    used: dict[bytes, list[int]] = {name: [] for name in NAMES}
    durable: list[bytes] = []
    counters = Counters()
    for name, count, fate in steps:
        reservation = counters.reserve(name, count)
        if fate:
            durable.append(reservation.entry.payload)
            used[name] += reservation.numbers
        if fate < 2:
            order.shuffle(durable)
            counters = replayed(*durable)
    for numbers in used.values():
        assert len(set(numbers)) == len(numbers)
