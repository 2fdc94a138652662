import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.mls import send_ledger
from protocols.mls.ratchets import GENERATIONS, Ratchet
from protocols.mls.send_ledger import EPOCHS_MAX, SendLedger

APPLICATION, HANDSHAKE = Ratchet.APPLICATION, Ratchet.HANDSHAKE


def name(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_generations_count_up_in_each_epoch_and_ratchet_by_itself() -> None:
    ledger = SendLedger()
    assert [ledger.reserve(4, name(1), APPLICATION).first for _ in range(3)] == [0, 1, 2]
    assert ledger.reserve(4, name(1), HANDSHAKE).first == 0
    assert ledger.reserve(4, name(2), APPLICATION).first == 0
    assert list(ledger.reserve(4, name(1), APPLICATION, 5).generations) == [3, 4, 5, 6, 7]
    assert ledger.reserve(4, name(1), APPLICATION).first == 8


def test_authenticator_of_any_suite_names_an_epoch() -> None:
    ledger = SendLedger()
    for size in (32, 48, 64):
        long = bytes(range(size - 1, -1, -1))
        assert [ledger.reserve(0, long, APPLICATION).first for _ in range(2)] == [0, 1]
    with pytest.raises(LocalError):
        ledger.reserve(0, bytes(31), APPLICATION)


def test_right_to_commit_is_given_once_in_an_epoch() -> None:
    ledger = SendLedger()
    ledger.reserve(4, name(1), HANDSHAKE, 3)
    ledger.check_commit(4, name(1))
    delta = ledger.reserve_commit(4, name(1)).encode()
    before = ledger.to_bytes()
    for again in (ledger.check_commit, ledger.reserve_commit):
        with pytest.raises(LocalError, match="have committed"):
            again(4, name(1))
    assert ledger.to_bytes() == before
    ledger.reserve_commit(4, name(2))
    assert ledger.reserve(4, name(1), HANDSHAKE).first == 3

    recovered = SendLedger()
    recovered.apply(delta)
    with pytest.raises(LocalError, match="have committed"):
        recovered.check_commit(4, name(1))
    with pytest.raises(LocalError, match="no reservation"):
        recovered.apply(delta[:-1] + b"\2")


def test_epoch_that_was_forgotten_is_not_committed_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_ledger, "EPOCHS_MAX", 2)
    ledger = SendLedger()
    for epoch in range(3):
        ledger.reserve_commit(epoch, name(epoch))
    with pytest.raises(LocalError, match="nothing is sent in it"):
        ledger.check_commit(0, name(0))


def test_epoch_that_was_forgotten_is_not_sent_in_again() -> None:
    ledger = SendLedger()
    for epoch in range(EPOCHS_MAX + 1):
        ledger.reserve(epoch, name(epoch), APPLICATION)
    before = ledger.to_bytes()
    with pytest.raises(LocalError, match="nothing is sent in it"):
        ledger.reserve(0, name(0), APPLICATION)
    with pytest.raises(LocalError, match="nothing is sent in it"):
        ledger.reserve(0, name(9999), APPLICATION)
    assert ledger.to_bytes() == before
    assert ledger.reserve(1, name(1), APPLICATION).first == 1


def test_reservations_are_applied_in_any_order_and_again() -> None:
    ledger = SendLedger()
    reservations = [ledger.reserve(each % 3, name(each % 3), Ratchet(each % 2)) for each in range(12)]
    deltas = [each.encode() for each in reservations] * 2
    assert {len(delta) for delta in deltas} == {57}
    random.Random(1).shuffle(deltas)
    recovered = SendLedger()
    for delta in deltas:
        recovered.apply(delta)
    assert recovered.to_bytes() == ledger.to_bytes()


def test_merging_takes_the_higher_position_of_each() -> None:
    ours, theirs = SendLedger(), SendLedger()
    ours.reserve(1, name(1), APPLICATION, 5)
    theirs.reserve(1, name(1), APPLICATION, 3)
    theirs.reserve(1, name(1), HANDSHAKE, 7)
    theirs.reserve(2, name(2), APPLICATION, 1)
    ours.merge(theirs)
    assert ours.reserve(1, name(1), APPLICATION).first == 5
    assert ours.reserve(1, name(1), HANDSHAKE).first == 7
    assert ours.reserve(2, name(2), APPLICATION).first == 1
    assert theirs.reserve(1, name(1), APPLICATION).first == 3


def test_position_that_was_forgotten_is_not_brought_back_by_one_who_has_a_lower_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even after an update of the program that lets the table grow, so that there is room for it."""
    monkeypatch.setattr(send_ledger, "EPOCHS_MAX", 3)
    old, new = SendLedger(), SendLedger()
    lower = old.reserve(0, name(0), APPLICATION).encode()
    new.apply(lower)
    new.reserve(0, name(0), APPLICATION, 10)
    for epoch in range(1, 4):
        new.reserve(epoch, name(epoch), APPLICATION)
    for bound in (3, 10):
        monkeypatch.setattr(send_ledger, "EPOCHS_MAX", bound)
        for first, second in ((old, new), (new, old)):
            merged = SendLedger.from_bytes(first.to_bytes())
            merged.merge(second)
            with pytest.raises(LocalError):
                merged.reserve(0, name(0), APPLICATION)
        new.apply(lower)
        with pytest.raises(LocalError):
            new.reserve(0, name(0), APPLICATION)


def test_ratchet_that_is_used_up_reserves_nothing() -> None:
    ledger = SendLedger()
    ledger.reserve(0, name(0), APPLICATION, GENERATIONS - 1)
    before = ledger.to_bytes()
    for count in (2, 0, -1):
        with pytest.raises(LocalError):
            ledger.reserve(0, name(0), APPLICATION, count)
    assert ledger.to_bytes() == before
    assert ledger.reserve(0, name(0), APPLICATION).first == GENERATIONS - 1
    with pytest.raises(LocalError):
        ledger.reserve(0, name(0), APPLICATION)


def test_same_authenticator_under_another_number_is_the_callers_fault() -> None:
    ledger = SendLedger()
    ledger.reserve(3, name(1), APPLICATION)
    with pytest.raises(LocalError):
        ledger.reserve(4, name(1), APPLICATION)


@pytest.mark.parametrize("data", [b"", b"\2", b"\1" + bytes(8) + b"\1\0", b"\1" + bytes(9) + b"\0"])
def test_bytes_that_are_no_ledger_are_refused(data: bytes) -> None:
    with pytest.raises(LocalError):
        SendLedger.from_bytes(data)


def test_bytes_that_are_no_reservation_are_refused() -> None:
    ledger = SendLedger()
    delta = ledger.reserve(0, name(0), APPLICATION).encode()
    before = ledger.to_bytes()
    for bad in (b"", delta[:-1], delta + b"\0", delta[:40] + b"\3" + delta[41:], delta[:-8] + b"\xff" * 8):
        with pytest.raises(LocalError):
            ledger.apply(bad)
    assert ledger.to_bytes() == before


STEPS = st.lists(
    st.tuples(st.sampled_from(("reserve", "reserve", "commit", "restore", "merge", "store")), st.integers(0, 11)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_nothing_is_ever_given_out_twice(steps: list[tuple[str, int]]) -> None:
    """A small table, so that rows fall out of it all the time; restoring is an old state and the whole journal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(send_ledger, "EPOCHS_MAX", 3)
        ledger, stored = SendLedger(), SendLedger().to_bytes()
        journal: list[bytes] = []
        given_out: set[tuple[int, int, int]] = set()
        for step, number in steps:
            match step:
                case "reserve" | "commit":
                    try:
                        if step == "commit":
                            reservation = ledger.reserve_commit(number // 2, name(number))
                        else:
                            reservation = ledger.reserve(number // 2, name(number), Ratchet(number % 2), 1 + number % 3)
                    except LocalError:
                        continue
                    journal.append(reservation.encode())
                    positions = {(number, reservation.ratchet, each) for each in reservation.generations}
                    assert not positions & given_out
                    given_out |= positions
                case "store":
                    stored = ledger.to_bytes()
                case "merge":
                    ledger.merge(SendLedger.from_bytes(stored))
                case _:
                    ledger = SendLedger.from_bytes(stored)
                    shuffled = list(journal)
                    random.Random(number).shuffle(shuffled)
                    for delta in shuffled:
                        ledger.apply(delta)


def test_what_others_saw_of_us_is_given_out_and_written_down() -> None:
    ledger, other = SendLedger(), SendLedger()
    ledger.reserve(4, name(1), APPLICATION, 3)
    raised = ledger.raise_to(4, name(1), APPLICATION, 10)
    assert list(raised.generations) == [3, 4, 5, 6, 7, 8, 9]
    other.apply(raised.encode())
    assert other.following(name(1), APPLICATION) == ledger.following(name(1), APPLICATION) == 10
    for less in (0, 10):
        assert not ledger.raise_to(4, name(1), APPLICATION, less).generations
    assert ledger.following(name(1), APPLICATION) == 10
