"""One replica among the others: whom it asks, what it tells, and when it may write."""

from typing import Final

import pytest

from actors import crdt_channel
from actors.crdt_channel import EXCHANGES_MAX, FETCH_NS_MAX, ChannelReplica
from actors.randomness import Stream, derive_key
from protocols.crdt.changes import Acknowledge, Assign, Change, Grant, Revoke, Role
from protocols.crdt.config import CrdtConfig
from protocols.crdt.exchange import Stage
from protocols.errors import LocalError
from tests.actors.crdt_world import CHANNEL, CONTACTS, DEVICES, IDENTITIES, KEY, SETUP, SIZE, Author

S: Final = 10**9
DRAWS: Final = Stream(derive_key(1, "test"))


def channel(number: int = 1, **config: int) -> ChannelReplica:
    return ChannelReplica(SETUP, IDENTITIES[number].signing, CrdtConfig(**config))


def took(channel: ChannelReplica, *changes: Change, sender: int = 2) -> None:
    receipt = channel.replica.receive(Author(sender).write(*changes), DEVICES[sender], S)
    assert receipt.refused is None
    channel.took(receipt.added, DEVICES[sender], S, DRAWS)


def test_news_is_told_after_the_delay_to_as_many_as_are_told_but_not_to_who_told_it() -> None:
    made = channel(fanout=3, gossip_delay_ms=200)
    took(made, Assign(KEY, 1))
    assert made.deadline() == S + S // 5
    assert not made.is_tell_due(S)
    assert made.is_tell_due(S + S // 5)
    told = made.tell(DRAWS)
    assert {(device, endpoint) for device, endpoint, _ in told} == {(DEVICES[0], 0), (DEVICES[3], 3)}
    assert made.tell(DRAWS) == [], "once"
    assert made.deadline() is None


def test_news_beyond_the_limit_is_left_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt_channel, "NEWS_MAX", 2)
    made = channel()
    took(made, Assign(KEY, 1), Assign(KEY, 2), Assign(KEY, 3))
    [(_, _, units), *_] = made.tell(DRAWS)
    receiver = channel(0)
    for unit in units:
        receiver.replica.receive(unit, b"", S)
    assert len(receiver.replica.history) < 5


def test_acknowledgements_go_with_other_news() -> None:
    made = channel()
    took(made, Acknowledge())
    assert made.deadline() is None
    took(made, Assign(KEY, 1), sender=1)
    assert len(made.tell(DRAWS)[0][2]) >= 1


def test_members_are_asked_one_exchange_each_and_who_stalls_is_overtaken() -> None:
    made = channel()
    asked = [made.begin_exchange(S, DRAWS) for _ in range(3)]
    assert list(made.asking) == asked[-EXCHANGES_MAX:]
    assert DEVICES[1] not in asked


def test_who_told_what_cannot_be_used_is_asked_for_the_rest_and_has_its_time_for_that() -> None:
    made = channel()
    for number in (0, 2, 3):
        unit = Author(number).write(after=(bytes([number + 1]) * 32,))
        assert made.replica.receive(unit, DEVICES[number], S).parked
    assert [made.begin_fetch(DEVICES[number], S) for number in (0, 2, 2, 3)] == [True, True, False, False]
    assert made.begin_exchange(S, DRAWS) == DEVICES[3], "that does not keep it from asking others"
    made.give_up(DEVICES[3], -1)
    assert made.begin_fetch(DEVICES[3], S + FETCH_NS_MAX)
    assert list(made.asking) == [DEVICES[2], DEVICES[3]]


def test_an_answer_to_an_exchange_that_was_given_up_belongs_to_nothing() -> None:
    made = channel()
    device = made.begin_exchange(S, DRAWS)
    assert device is not None
    made.asking[device].call = 7
    assert made.asking_by(device, 6) is None
    assert not made.give_up(device, 6)
    assert made.asking_by(device, 7) is made.asking[device]
    assert made.give_up(device, 7)
    assert made.asking_by(device, 7) is None


def test_a_fetch_confirms_nothing() -> None:
    made = channel(confirmations=1)
    made.replica.receive(Author(2).write(after=(bytes(32),)), DEVICES[2], S)
    assert made.begin_fetch(DEVICES[2], S)
    made.asking[DEVICES[2]].exchange._state.stage = Stage.OVER
    made.completed(DEVICES[2])
    assert not made.is_confirmed


def test_who_is_no_member_is_neither_told_nor_asked() -> None:
    made = channel()
    owner = Author(0)
    owner.sequence, owner.previous = 1, CHANNEL
    held = made.replica.receive(owner.write(Revoke(DEVICES[2]), after=()), DEVICES[0], S)
    assert held.refused is None
    made.took(held.added, DEVICES[3], S, DRAWS)
    assert not made.is_member(DEVICES[2])
    assert [device for device, _, _ in made.tell(DRAWS)] == [DEVICES[0]]
    assert {made.begin_exchange(S, DRAWS) for _ in range(2)} == {DEVICES[0], DEVICES[3]}
    assert not made.begin_fetch(DEVICES[2], S)


def test_a_device_that_is_let_in_is_asked_once_it_was_heard_of() -> None:
    made = channel(fanout=64)
    owner = Author(0)
    owner.sequence, owner.previous = 1, CHANNEL
    made.took(
        made.replica.receive(owner.write(Grant(DEVICES[SIZE], Role.MEMBER), after=()), b"", S).added, b"", S, DRAWS
    )
    assert made.is_member(DEVICES[SIZE])
    assert made.endpoint(DEVICES[SIZE]) is None
    made.met(DEVICES[SIZE], 77)
    assert (DEVICES[SIZE], 77) in {(device, endpoint) for device, endpoint, _ in made.tell(DRAWS)}


def test_writing_waits_for_so_many_members_or_all_there_are() -> None:
    for wanted, enough in ((0, 0), (2, 2), (16, SIZE - 1)):
        made = channel(confirmations=wanted)
        for _ in range(enough):
            assert not made.check_confirmed()
            device = made.begin_exchange(S, DRAWS)
            assert device is not None
            made.asking[device].exchange._state.is_equal = True
            made.completed(device)
        assert made.check_confirmed()


def test_an_exchange_that_ended_early_confirms_nothing() -> None:
    made = channel(confirmations=1)
    device = made.begin_exchange(S, DRAWS)
    assert device is not None
    made.completed(device)
    assert not made.is_confirmed


def test_it_hurries_until_it_may_write() -> None:
    slow, fast = channel(), channel()
    slow.is_confirmed = True
    for each in (slow, fast):
        each.plan_sync(0, DRAWS)
    at, sooner = slow.deadline(), fast.deadline()
    assert at is not None
    assert sooner is not None
    assert sooner < at // 4


def test_nothing_is_said_unasked_before_it_may_write() -> None:
    author = Author(2)
    made = channel(confirmations=1)
    for unit in (author.write(Assign(KEY, 1)), author.write(Assign(KEY, 2), aside=True)):
        made.took(made.replica.receive(unit, b"", S).added, b"", S, DRAWS)
    made.tell(DRAWS)
    assert made.deadline() is None
    made.is_confirmed = True
    due = made.deadline()
    assert due is not None
    assert not made.is_accusation_due(due - 1)
    assert made.is_accusation_due(due)
    assert not made.is_accusation_due(due), "once"


def test_state_goes_to_bytes_and_back() -> None:
    made = channel()
    took(made, Assign(KEY, 1))
    made.begin_exchange(S, DRAWS)
    made.met(DEVICES[SIZE], 9)
    made.plan_sync(5, DRAWS)
    data = made.to_bytes()
    again = ChannelReplica.from_bytes(data, SETUP, IDENTITIES[1].signing, CrdtConfig())
    assert again.to_bytes() == data
    assert again.deadline() == made.deadline()
    with pytest.raises(LocalError):
        ChannelReplica.from_bytes(b"\x90", SETUP, IDENTITIES[1].signing, CrdtConfig())


def test_its_own_device_is_none_of_the_others() -> None:
    assert CONTACTS[1] in SETUP.members
    assert channel().endpoint(DEVICES[1]) is None
