"""The answering side: one question at a time, from anybody."""

from typing import Final

import pytest

from protocols.crdt.answering import NEAR_MAX, PAGE_MAX, latest_heads
from protocols.crdt.errors import CrdtError
from protocols.crdt.messages import (
    FINGERPRINTS_MAX,
    HEADS_MAX,
    LISTED_MAX,
    RESPONSES,
    Compare,
    Delta,
    Far,
    Fingerprints,
    Heads,
    List,
    Listed,
    Push,
    Request,
    Same,
    Since,
    Split,
)
from protocols.crdt.reconciliation import pack_ranges, pack_shorts
from tests.protocols.crdt.peers import BINDING, pair

KIB: Final = 1024

OURS, THEIRS, _ = pair(4, 12_800)
CHANNEL: Final = OURS.history.channel
IDS: Final = list(OURS.history.operations)


def test_equal_heads_are_the_same_and_others_are_told() -> None:
    answer = OURS.answerer.answer
    assert answer(Compare(CHANNEL, THEIRS.history.set_digest), BINDING) == Same()
    assert answer(Compare(CHANNEL, bytes(16)), BINDING) == Heads(OURS.history.heads, False)


def test_of_very_many_heads_the_last_are_told() -> None:
    held, _, writers = pair(HEADS_MAX + 10, 0)
    for each in writers:
        each.write(held, 1, aware=False)
    heads, more = latest_heads(held.history)
    assert more
    assert heads == tuple(sorted(list(held.history.operations)[-HEADS_MAX:]))


def test_who_knows_something_gets_the_rest_of_it_and_hears_what_is_known() -> None:
    answer = OURS.answerer.answer(Since(CHANNEL, (bytes(32), IDS[-65], IDS[-1])), BINDING)
    assert answer == Delta(b"\x06", (), False)
    answer = OURS.answerer.answer(Since(CHANNEL, (bytes(32), IDS[-65])), BINDING)
    assert isinstance(answer, Delta)
    assert answer.held == b"\x02"
    assert len(answer.units) == 1
    assert not answer.more


def test_much_is_sent_to_who_names_only_what_is_known_or_wants_it_however_much_it_is() -> None:
    far = Since(CHANNEL, (bytes(32), IDS[5000]))
    assert isinstance(OURS.answerer.answer(far, BINDING), Far)
    for near in (
        Since(CHANNEL, (IDS[5000],)),
        Since(CHANNEL, (bytes(32), IDS[5000]), (), True),
        Since(CHANNEL, (bytes(32), IDS[5000]), (IDS[-1],)),
        Since(CHANNEL, (bytes(32), IDS[-NEAR_MAX - 1])),
    ):
        assert isinstance(OURS.answerer.answer(near, BINDING), Delta)


def test_a_page_is_bounded_in_bytes_and_says_that_there_is_more() -> None:
    page = OURS.answerer.answer(Since(CHANNEL, ()), BINDING)
    assert isinstance(page, Delta)
    assert page.more
    assert len(RESPONSES.encode(page)) < 65 * KIB
    assert len(IDS) > PAGE_MAX


def test_fingerprints_and_lists_are_those_of_the_session() -> None:
    split = Split(CHANNEL, 0, 4, pack_ranges([0]))
    first = OURS.answerer.answer(split, BINDING)
    assert isinstance(first, Fingerprints)
    assert first == THEIRS.answerer.answer(split, BINDING)
    assert first != OURS.answerer.answer(split, bytes(32))
    listed = OURS.answerer.answer(List(CHANNEL, 4, pack_ranges([3, 9])), BINDING)
    assert isinstance(listed, Listed)
    assert listed.ranges == 2
    keyed = OURS.sets.of(BINDING)
    assert listed.keys == pack_shorts(keyed.within(4, 3) + keyed.within(4, 9))


def test_what_is_too_long_a_list_is_listed_as_far_as_it_goes() -> None:
    listed = OURS.answerer.answer(List(CHANNEL, 1, pack_ranges([0, 1])), BINDING)
    assert isinstance(listed, Listed)
    assert listed.ranges == 1
    assert OURS.answerer.answer(List(CHANNEL, 0, pack_ranges([0])), BINDING) == Listed(0, b"")
    assert len(IDS) > LISTED_MAX


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Compare(bytes(32), bytes(16)), "wrong_channel"),
        (Split(CHANNEL, 2, 1, pack_ranges([1, 1])), "bad_ranges"),
        (Split(CHANNEL, 2, 1, pack_ranges([2, 1])), "bad_ranges"),
        (Split(CHANNEL, 2, 1, pack_ranges([4])), "bad_ranges"),
        (Split(CHANNEL, 2, 1, pack_ranges([1]) + b"\0"), "bad_ranges"),
        (Split(CHANNEL, 32, 1, pack_ranges([1])), "bad_ranges"),
        (Split(CHANNEL, 8, 13, pack_ranges([1, 2])), "bad_ranges"),
        (List(CHANNEL, 0, pack_ranges([1])), "bad_ranges"),
        (Push(CHANNEL, ()), "unexpected_question"),
    ],
)
def test_questions_that_make_no_sense_are_refused(question: Request, reason: str) -> None:
    with pytest.raises(CrdtError) as caught:
        OURS.answerer.answer(question, BINDING)
    assert caught.value.reason == reason
    assert FINGERPRINTS_MAX == 1 << 13


def test_a_push_gets_what_it_wants_causes_first_and_not_what_nobody_holds() -> None:
    world_peer, theirs, writers = pair(4, 640)
    parcels = [writers[0].write(world_peer, 1) for _ in range(5)]
    keyed = world_peer.sets.of(BINDING)
    by_id = {held.id: key >> 16 for key in keyed.keys if (held := keyed.find(key >> 16)) is not None}
    wanted = [by_id[parcel.operations[0].id] for parcel in reversed(parcels)]
    push = Push(world_peer.history.channel, (), pack_shorts([1, *wanted, 2]))
    answer = world_peer.answerer.pushed(push, BINDING, taken=3, parked=2, refused=1)
    assert (answer.taken, answer.parked, answer.refused, answer.more) == (3, 2, 1, False)
    assert theirs.receive(answer.units) == 5
    assert not theirs.waiting
    with pytest.raises(CrdtError, match="bad_ranges"):
        world_peer.answerer.wanted(Push(CHANNEL, (), b"1234567"), BINDING)


def test_the_genesis_is_never_sent_as_everybody_has_it() -> None:
    held, _, _ = pair(2, 0)
    assert held.answerer.answer(Since(held.history.channel, ()), BINDING) == Delta(b"", (), False)
    key = held.sets.of(BINDING).keys[0] >> 16
    wanted = held.answerer.wanted(Push(held.history.channel, (), pack_shorts([key])), BINDING)
    assert not wanted.units
    assert not wanted.rest


def test_a_fetch_stops_at_what_was_asked_for() -> None:
    held, theirs, writers = pair(2, 128)
    parcels = [writers[0].write(held, 1) for _ in range(10)]
    known = tuple(theirs.history.heads)
    answer = held.answerer.answer(Since(held.history.channel, known, (parcels[3].operations[0].id,)), BINDING)
    assert isinstance(answer, Delta)
    assert theirs.receive(answer.units) == 4
