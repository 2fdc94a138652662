"""Outputs leave in order, each after everything that was written before it."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import LocalError
from protocols.journal import outbox as module
from protocols.journal.messages import Append, Durable, Entry, Forget, Settle, Snapshot, Write
from protocols.journal.outbox import BusyError, Outbox
from protocols.messages import Codec, Message


class Said(Message, frozen=True, tag="test.said"):
    number: int


CODEC: Final = Codec(Said)
ENTRY: Final = Entry("test", b"payload")


def durable(outbox: Outbox[Said], write: Write) -> None:
    assert not isinstance(write, Settle)
    outbox.durable(Durable(write.token, write.stream, 0))


def test_an_output_waits_for_all_that_was_written_before_it() -> None:
    outbox = Outbox(CODEC)
    outbox.hold(Said(0))
    assert outbox.released() == [Said(0)]
    outbox.append(b"a", ENTRY, ENTRY)
    outbox.hold(Said(1), Said(2))
    outbox.snapshot(b"b", b"state", erase=True)
    outbox.hold(Said(3))
    first, second = outbox.writes()
    assert first == Append(1, b"a", (ENTRY, ENTRY))
    assert second == Snapshot(2, b"b", b"state", erase=True)
    assert outbox.writes() == []
    assert outbox.released() == []
    durable(outbox, second)
    assert outbox.released() == []
    durable(outbox, first)
    assert outbox.released() == [Said(1), Said(2), Said(3)]
    assert len(outbox) == 0


def test_a_write_of_nothing_is_none() -> None:
    outbox = Outbox(CODEC)
    outbox.append(b"a")
    assert outbox.writes() == []


def test_what_the_journal_was_not_told_releases_nothing() -> None:
    outbox = Outbox(CODEC)
    outbox.append(b"a", ENTRY)
    outbox.hold(Said(1))
    assert outbox.released() == []
    with pytest.raises(LocalError, match="not handed on"):
        outbox.to_bytes()


@pytest.mark.parametrize("token", [0, 1, 3])
def test_an_answer_to_nothing_is_refused(token: int) -> None:
    """To no write, to one that was answered, to one that is to come."""
    outbox = Outbox(CODEC)
    outbox.append(b"a", ENTRY)
    outbox.append(b"a", ENTRY)
    durable(outbox, outbox.writes()[0])
    with pytest.raises(LocalError, match="not under way"):
        outbox.durable(Durable(token, b"a", 1))


def test_nothing_is_begun_while_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_MAX", 2)
    outbox = Outbox(CODEC)
    outbox.append(b"a", ENTRY)
    outbox.hold(Said(1))
    outbox.check_room()
    outbox.hold(Said(2))
    with pytest.raises(LocalError, match="2 outputs and 1 writes of 7 bytes wait"):
        outbox.check_room()


def test_writes_without_outputs_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_MAX", 2)
    outbox = Outbox(CODEC)
    for _ in range(2):
        outbox.check_room()
        outbox.append(b"a", ENTRY)
    with pytest.raises(LocalError, match="2 writes of 14 bytes wait"):
        outbox.check_room()
    durable(outbox, outbox.writes()[0])
    outbox.check_room()


def test_bytes_under_way_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNDER_WAY_SIZE_MAX", 20)
    outbox = Outbox(CODEC)
    outbox.append(b"a", ENTRY)
    outbox.check_room()
    outbox.snapshot(b"a", bytes(13))
    first, second = outbox.writes()
    for each in (outbox, Outbox.from_bytes(outbox.to_bytes(), CODEC)):
        with pytest.raises(BusyError, match="2 writes of 20 bytes wait"):
            each.check_room()
        durable(each, second)
        each.check_room()
        durable(each, first)
        each.check_room()


def test_who_forgets_a_stream_waits_for_it_and_who_settles_one_does_not() -> None:
    outbox = Outbox(CODEC)
    outbox.settle(b"a")
    outbox.hold(Said(1))
    assert outbox.released() == [Said(1)]
    outbox.forget(b"a")
    outbox.hold(Said(2))
    settle, forget = outbox.writes()
    assert settle == Settle(b"a")
    assert forget == Forget(1, b"a")
    assert outbox.released() == []
    durable(outbox, forget)
    assert outbox.released() == [Said(2)]


def test_what_was_held_when_the_journal_was_lost_is_given_back_and_never_released() -> None:
    outbox = Outbox(CODEC)
    outbox.append(b"a", ENTRY)
    outbox.hold(Said(1), Said(2))
    assert outbox.abandon() == [Said(1), Said(2)]
    assert (outbox.writes(), outbox.released(), outbox.abandon()) == ([], [], [])
    outbox.check_room()


@given(st.lists(st.sampled_from(["write", "hold", "durable", "store"]), max_size=40), st.randoms(use_true_random=False))
def test_whatever_the_order_of_the_answers_no_output_is_early_or_late(steps: list[str], random: st.DataObject) -> None:
    outbox = Outbox(CODEC)
    waiting: list[Write] = []
    held: list[tuple[int, Said]] = []
    """With the number of writes before."""
    written, done, number = 0, set[int](), 0
    for step in steps:
        match step:
            case "write":
                outbox.append(b"a", ENTRY)
                waiting += outbox.writes()
                written += 1
            case "hold":
                number += 1
                outbox.hold(Said(number))
                held.append((written, Said(number)))
            case "durable" if waiting:
                write = waiting.pop(random.randrange(len(waiting)))  # type: ignore[attr-defined]
                durable(outbox, write)
                assert isinstance(write, Append)
                done.add(write.token)
            case _:
                outbox = Outbox.from_bytes(outbox.to_bytes(), CODEC)
        free = next((token for token in range(1, written + 1) if token not in done), written + 1)
        expected = [said for before, said in held if before < free]
        held = held[len(expected) :]
        assert outbox.released() == expected
        assert len(outbox) == len(held)


@pytest.mark.parametrize("data", [b"", b"\x90", Outbox(CODEC).to_bytes()[:-1]])
def test_bytes_that_are_no_outbox_are_refused(data: bytes) -> None:
    with pytest.raises(LocalError, match="no stored outbox"):
        Outbox.from_bytes(data, CODEC)


def test_a_later_version_is_refused() -> None:
    data = module._STATES.encode(module._State(2, 0, (), ()))
    with pytest.raises(LocalError, match="version 2"):
        Outbox.from_bytes(data, CODEC)
