"""Replicas as actors: what one peer writes all hold, whoever sends what no honest peer sends is blamed for it."""

import pytest

from actors import crdt_replica
from actors.crdt_replica import CHANNELS_MAX, CrdtReplica
from actors.setup import PeerSetup
from protocols.admission import Fault
from protocols.crdt import pending
from protocols.crdt.bundles import BUNDLE_COUNT_MAX
from protocols.crdt.changes import Accuse, Acknowledge, Add, Assign, Edit, Grant, Increment, Insert, Revoke, Role
from protocols.crdt.messages import (
    MESSAGE_SIZE_MAX,
    REQUESTS,
    RESPONSES,
    Compare,
    Delta,
    Heads,
    Push,
    Pushed,
    Same,
    Since,
    Split,
)
from protocols.crdt.requests import (
    DELETED_MAX,
    Changed,
    Describe,
    Described,
    Revise,
    WatchChannel,
    Write,
    WriteRefused,
    Written,
)
from protocols.errors import LocalError
from protocols.messages import Codec, Message
from protocols.rpc.calls import Call, Completed, Failed, Refuse, Respond
from tests.actors.crdt_world import (
    CHANNEL,
    DEVICES,
    IDENTITIES,
    KEY,
    SETUP,
    SIZE,
    Alone,
    Author,
    World,
)

TEXT = ("text",)

# -- among peers ------------------------------------------------------------------------------------------------


def test_what_one_peer_writes_all_hold_within_seconds() -> None:
    world = World()
    world.write(2, Increment(KEY, 5), Add(KEY, "x"))
    world.run(5)
    assert len(world.digests()) == 1
    assert all(world.replica(each).document.counter(KEY) == 5 for each in range(SIZE))
    [(_, written)] = world.results(2)
    assert isinstance(written, Written)
    assert written.operations == tuple(world.replica(2).history.operations)[-2:]


def test_news_goes_through_those_who_are_told_to_all_others() -> None:
    world = World(fanout=1, sync_interval_s=86_400, confirmations=0)
    for number in range(20):
        world.write(number % 2, Increment((f"{number}",), 1))
        world.run(5)
    held = [len(world.replica(each).history) for each in range(SIZE)]
    assert min(held) > 11, "a chain of one at a time may end early"
    assert all(len(world.replica(each).history.lanes_of) == 2 for each in range(SIZE))


def test_without_news_all_converge_by_asking() -> None:
    world = World(fanout=0)
    for number in range(3):
        world.write(number, Add(KEY, number))
    world.run(120)
    assert len(world.digests()) == 1
    assert world.replica(3).document.elements(KEY) == [0, 1, 2]


def test_a_text_is_revised_by_several_and_places_beyond_its_end_are_its_end() -> None:
    world = World()
    world.tell(2, Revise(1, CHANNEL, TEXT, 0, 0, "ello"))
    world.run(5)
    world.tell(1, Revise(1, CHANNEL, TEXT, 0, 0, "H"))
    world.tell(0, Revise(1, CHANNEL, TEXT, 99, 7, " panda"))
    world.run(5)
    world.tell(2, Revise(2, CHANNEL, TEXT, 0, 5, "Bye"))
    world.tell(2, Revise(3, CHANNEL, TEXT, 0, 0, ""))
    world.run(5)
    assert {str(world.replica(each).document.text(TEXT)) for each in range(SIZE)} == {"Bye panda"}
    assert [type(each) for _, each in world.results(2)] == [Written] * 3


def test_a_text_that_others_cut_to_pieces_is_deleted_by_as_many_operations_as_can_be_told() -> None:
    alone, author, size = Alone(), Author(2), 64 * 80
    units = [author.write(Edit(TEXT, (Insert(None, 0, False, "." * size),)))]
    for number in range(80):
        cuts = tuple(Insert(1 + number, 64 * number + offset, True, "x") for offset in range(64))
        units.append(author.write(Edit(TEXT, cuts)))
    alone.ask(push(*units))
    alone.tell(Revise(1, CHANNEL, TEXT, 0, DELETED_MAX + 1, ""))
    alone.tell(Revise(2, CHANNEL, TEXT, 0, 2 * size, "gone"))
    refused, written = alone.results()
    assert isinstance(refused, WriteRefused)
    assert isinstance(written, Written)
    assert len(written.operations) > 2 * BUNDLE_COUNT_MAX
    codec = Codec(Written, size_max=MESSAGE_SIZE_MAX)
    assert codec.decode(codec.encode(written)) == written
    assert str(alone.replica.document.text(TEXT)) == "gone"


def test_a_member_that_was_away_is_brought_up_to_date() -> None:
    world = World(up=[0, 1, 2])
    for number in range(30):
        world.write(number % 3, Increment(KEY, 1))
    world.run(10)
    world.host.up(3)
    world.run(30)
    assert world.replica(3).document.counter(KEY) == 30


def test_who_may_not_write_is_refused_and_nothing_has_changed() -> None:
    world = World()
    world.write(3)
    world.tell(2, Write(2, CHANNEL, (Grant(DEVICES[2], Role.ADMIN),)))
    world.tell(2, Write(3, bytes(32), (Assign(KEY, 1),)))
    world.run(5)
    [(_, reader)] = world.results(3)
    answers = [each for _, each in world.results(2)]
    assert isinstance(reader, WriteRefused)
    assert [(each.token, each.reason) for each in answers if isinstance(each, WriteRefused)] == [
        (2, "refused"),
        (3, "unknown_channel"),
    ]
    assert {len(world.replica(each).history) for each in range(SIZE)} == {1}


def test_a_granted_role_is_used_and_a_revoked_device_is_served_no_more() -> None:
    world = World()
    world.write(1, Grant(DEVICES[3], Role.MEMBER))
    world.run(5)
    world.write(3)
    world.run(5)
    assert isinstance(world.results(3)[-1][1], Written)
    world.write(0, Revoke(DEVICES[2]))
    world.run(10)
    world.write(1, Add(KEY, "secret"))
    world.run(120)
    assert len(world.digests(0, 1, 3)) == 1
    assert world.count("crdt_requests_refused", "not_member") > 0
    assert world.replica(2).document.elements(KEY) == []
    assert not [row for row in world.host.events if row.name == "security"], "who was removed cannot know it"


def test_watchers_hear_of_what_came_from_anywhere() -> None:
    world = World()
    world.tell(0, WatchChannel(CHANNEL))
    world.tell(0, WatchChannel(CHANNEL))
    world.write(0)
    world.run(5)
    world.write(1)
    world.run(5)
    changes = [each for _, each in world.results(0) if isinstance(each, Changed)]
    assert changes == [Changed(CHANNEL, 1, 2), Changed(CHANNEL, 1, 3)]


def test_a_replica_is_described_with_who_wrote_what() -> None:
    world = World()
    world.write(2, Add(KEY, 1), Add(KEY, 2))
    world.run(5)
    world.tell(1, Describe(7, CHANNEL))
    [(_, described)] = world.results(1)
    assert isinstance(described, Described)
    assert (described.token, described.operations, described.parked, described.confirmed) == (7, 3, 0, True)
    assert [each.device for each in described.authors] == sorted(DEVICES[:SIZE])
    by_device = {each.device: each for each in described.authors}
    assert by_device[DEVICES[2]].counting == by_device[DEVICES[2]].sequence == 2
    assert by_device[DEVICES[3]].tip == bytes(32)
    assert by_device[DEVICES[3]].role == Role.READER


# -- how far we were --------------------------------------------------------------------------------------------


def test_a_device_that_forgot_what_it_wrote_gets_it_back_before_it_writes_again() -> None:
    world = World()
    world.write(2, Increment(KEY, 1))
    world.run(10)
    world.crash(2, seconds=0)
    world.write(2, Increment(KEY, 1))
    world.run(60)
    assert [type(each) for _, each in world.results(2)] == [Written]
    assert {world.replica(each).document.counter(KEY) for each in range(SIZE)} == {2}
    assert not world.replica(0).history.forks


def test_alone_nobody_writes_whose_memory_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt_replica, "EARLY_MAX", 2)
    world = World(up=[2])
    for token in range(3):
        world.write(2, token=token)
    world.run(120)
    assert [each for _, each in world.results(2)] == [WriteRefused(2, CHANNEL, "overloaded")]
    assert len(world.replica(2).history) == 1
    for number in (0, 1, 3):
        world.host.up(number)
    world.run(60)
    assert [each.token for _, each in world.results(2) if isinstance(each, Written)] == [0, 1]
    assert len(world.digests()) == 1


def test_a_channel_of_one_device_has_nobody_to_ask() -> None:
    alone = Alone(0)
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    assert [type(each) for each in alone.results()] == [Written]


# -- what comes from others -------------------------------------------------------------------------------------


def push(*units: bytes, channel: bytes = CHANNEL) -> bytes:
    return REQUESTS.encode(Push(channel, units))


def answers(alone: Alone) -> list[Message]:
    return [RESPONSES.decode(each.body) for each in alone.told("rpc") if isinstance(each, Respond)]


def altered(unit: bytes) -> bytes:
    return unit[:-1] + bytes([unit[-1] ^ 1])


def test_what_is_pushed_is_taken_in_once_and_answered_each_time() -> None:
    alone, unit = Alone(), Author(2).write()
    alone.ask(push(unit))
    alone.ask(push(unit), sender=0)
    assert answers(alone) == [Pushed(1, 0, 0), Pushed(0, 0, 0)]
    assert alone.host.counters["crdt_duplicates", ""] == 1
    assert alone.told("limiter") == []


def test_who_passes_on_what_nobody_signed_is_blamed_and_the_good_is_taken() -> None:
    alone, author = Alone(), Author(2)
    good, bad = author.write(), altered(Author(0).write())
    alone.ask(push(bad, good, bad), sender=3)
    assert answers(alone) == [Pushed(1, 0, 2)]
    assert alone.told("limiter") == [Fault(DEVICES[3], "bad_signature")]
    assert alone.host.counters["crdt_units_refused", "bad_signature"] == 2
    assert len(alone.replica.history) == 2


@pytest.mark.parametrize(
    ("body", "sender", "code", "blamed"),
    [
        (REQUESTS.encode(Compare(bytes(32), bytes(16))), 2, "unknown_channel", False),
        (REQUESTS.encode(Compare(CHANNEL, bytes(16))), SIZE, "not_member", False),
        (push(b"x"), SIZE, "not_member", False),
        (b"\x91\xa9crdt.what", 2, "invalid", True),
        (REQUESTS.encode(Split(CHANNEL, 1, 1, b"\xff" * 4)), 2, "invalid", True),
    ],
)
def test_a_request_that_is_none_of_ours_is_refused(body: bytes, sender: int, code: str, blamed: bool) -> None:
    alone = Alone()
    alone.ask(body, sender)
    assert alone.told("rpc") == [Refuse(1, code)]
    assert len(alone.told("limiter")) == blamed
    assert len(alone.replica.history) == 1


def test_questions_are_answered_from_what_is_held() -> None:
    alone, unit = Alone(), Author(2).write()
    alone.ask(REQUESTS.encode(Compare(CHANNEL, alone.replica.set_digest)))
    alone.ask(push(unit))
    alone.ask(REQUESTS.encode(Compare(CHANNEL, bytes(16))))
    alone.ask(REQUESTS.encode(Since(CHANNEL, (CHANNEL,))))
    same, _, heads, delta = answers(alone)
    assert same == Same()
    assert isinstance(heads, Heads)
    assert isinstance(delta, Delta)
    assert delta.units == (unit,)


def test_what_a_pushed_operation_depends_on_is_asked_of_who_pushed_it() -> None:
    alone, author = Alone(sync_interval_s=86_400), Author(2)
    first, second = author.write(), author.write()
    alone.ask(push(second))
    answer, call = alone.told("rpc")
    assert isinstance(answer, Respond)
    assert RESPONSES.decode(answer.body) == Pushed(0, 1, 0)
    assert isinstance(call, Call)
    question = REQUESTS.decode(call.body)
    assert (call.device, type(question)) == (DEVICES[2], Since)
    alone.tell(Completed(call.token, DEVICES[2], RESPONSES.encode(Delta(b"\x01", (first,), False)), 2, bytes(32)))
    assert len(alone.replica.history) == 3
    assert alone.told("limiter") == []


def test_an_answer_to_another_question_is_blamed_and_ends_the_exchange() -> None:
    alone = Alone()
    alone.run(30)
    calls = [each for each in alone.told("rpc") if isinstance(each, Call)]
    assert isinstance(REQUESTS.decode(calls[0].body), Compare)
    alone.tell(Completed(calls[0].token, calls[0].device, RESPONSES.encode(Pushed(0, 0, 0)), 0, bytes(32)))
    assert alone.told("limiter") == [Fault(calls[0].device, "bad_answer")]
    alone.run(60)
    assert [each for each in alone.told("rpc") if isinstance(each, Call)], "others are asked"


def test_who_does_not_answer_is_not_blamed_and_others_are_asked() -> None:
    alone = Alone()
    for _ in range(5):
        alone.run(30)
        for call in alone.told("rpc"):
            assert isinstance(call, Call)
            alone.tell(Failed(call.token, call.device, "timeout", "perhaps"))
    assert alone.told("limiter") == []
    assert alone.host.counters["crdt_exchanges", "failed"] >= 5


def test_an_answer_to_news_that_is_none_is_blamed() -> None:
    alone = Alone(sync_interval_s=86_400)
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    alone.run(1)
    calls = [each for each in alone.told("rpc") if isinstance(each, Call)]
    assert len(calls) == 3
    alone.tell(Completed(calls[0].token, calls[0].device, RESPONSES.encode(Same()), 0, bytes(32)))
    alone.tell(Completed(calls[1].token, calls[1].device, RESPONSES.encode(Pushed(1, 0, 0)), 0, bytes(32)))
    assert alone.told("limiter") == [Fault(calls[0].device, "bad_answer")]


def test_who_sends_what_can_never_be_used_is_charged_when_it_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "SENDER_COUNT_MAX", 4)
    alone = Alone()
    units = [Author(2).write(Assign(KEY, number), after=(bytes([number]) * 32,)) for number in range(6)]
    alone.ask(push(*units))
    assert alone.told("limiter") == [Fault(DEVICES[2], "pending_evicted")]
    assert len(alone.replica.pending) == 4


# -- what is said unasked ---------------------------------------------------------------------------------------


def test_an_equivocator_is_accused_after_a_while_by_who_has_nothing_else_to_say() -> None:
    alone, author = Alone(), Author(2)
    alone.ask(push(author.write(Assign(KEY, 1)), author.write(Assign(KEY, 2), aside=True)))
    assert alone.replica.judge.accusations_due
    alone.run(20)
    assert list(alone.replica.judge.fenced) == [DEVICES[2]]
    assert alone.host.counters["crdt_accusations", ""] == 1
    alone.run(60)
    assert alone.host.counters["crdt_accusations", ""] == 1


def test_an_equivocator_is_accused_before_anything_else_is_written() -> None:
    alone, author = Alone(), Author(2)
    alone.ask(push(author.write(Assign(KEY, 1)), author.write(Assign(KEY, 2), aside=True)))
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 3),)))
    changes = [type(held.operation.change) for held in alone.replica.history][-2:]
    assert changes == [Accuse, Assign]
    assert [type(each) for each in alone.results()] == [Written]


def test_a_fork_is_fenced_at_all_replicas_by_few_accusations() -> None:
    world = World()
    world.crash(2, seconds=0)
    world.host.down(2)
    author = Author(2)
    for number, unit in enumerate((author.write(Assign(KEY, 1)), author.write(Assign(KEY, 2), aside=True))):
        world.replica(number).receive(unit, b"", world.host.now)
    world.run(180)
    assert len(world.digests(0, 1, 3)) == 1
    assert list(world.replica(3).judge.fenced) == [DEVICES[2]]
    assert 1 <= world.count("crdt_accusations") <= 3


def test_who_has_nothing_to_say_acknowledges_what_is_new_once() -> None:
    alone = Alone(acknowledge_after_s=100)
    alone.run(300)
    assert len(alone.replica.history) == 1, "nothing is new"
    alone.ask(push(Author(2).write()))
    alone.run(130)
    changes = [type(held.operation.change) for held in alone.replica.history]
    assert changes[-1] is Acknowledge
    alone.run(1_000)
    assert len(alone.replica.history) == 3


def test_acknowledgements_are_no_news() -> None:
    world = World(acknowledge_after_s=20)
    world.write(2)
    world.run(600)
    assert len(world.digests()) == 1
    history = world.replica(0).history
    assert len(history) == 2 + SIZE - 1, "the others saw it, and nobody says that he saw that"


# -- the actor itself -------------------------------------------------------------------------------------------


def test_a_restored_host_goes_on_where_the_saved_one_was() -> None:
    def play(restoring: bool) -> tuple[dict[int, bytes], set[bytes]]:
        world = World()
        for window in range(60):
            if window % 7 == 0:
                world.write(window % 3, Increment((f"{window}",), window))
            world.host.run(world.host.now + 211 * 1_000_000)
            if restoring:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
        world.run(30)
        return world.host.digests(), world.digests()

    assert play(True) == play(False)


def test_a_peer_without_channels_refuses_and_waits_for_nothing() -> None:
    world = World()
    setup = PeerSetup(IDENTITIES[0], 0)
    actor = CrdtReplica(setup)
    assert actor.to_bytes() == CrdtReplica.from_bytes(actor.to_bytes(), setup).to_bytes()
    assert world.host.to_bytes()


def test_a_peer_has_a_bounded_number_of_channels() -> None:
    with pytest.raises(LocalError, match="channels"):
        CrdtReplica(PeerSetup(IDENTITIES[0], 0, channels=(SETUP,) * (CHANNELS_MAX + 1)))
