"""Replicas with a journal: nobody hears of an operation before it is durable, and what was durable comes back."""

import pytest

from actors import crdt_journal
from actors.crdt_journal import CrdtJournal, Publish, channel_of, stream_of
from protocols.crdt.changes import Assign, Increment
from protocols.crdt.messages import REQUESTS, RESPONSES, Compare, Push, Pushed
from protocols.crdt.requests import Describe, Described, Write, WriteRefused, Written
from protocols.errors import LocalError
from protocols.journal.messages import (
    Append,
    Close,
    Durable,
    JournalLost,
    OpenStream,
    Record,
    Recovered,
    Settle,
    Snapshot,
)
from protocols.rpc.calls import Call, Completed, Refuse, Respond
from tests.actors.crdt_world import CHANNEL, DEVICES, KEY, SECOND, SIZE, SYNC, Alone, Author, World

STREAM = stream_of(CHANNEL)
QUIET = 86_400


def opened(*records: Record, clean: bool = True, snapshot: bytes | None = None, **config: int) -> Alone:
    alone = Alone(journal=True, sync_interval_s=QUIET, **config)
    assert alone.told("journal") == [OpenStream(STREAM)]
    alone.tell(Recovered(STREAM, snapshot, records, clean))
    return alone


def appended(alone: Alone) -> list[Append]:
    return [each for each in alone.told("journal") if isinstance(each, Append)]


def push(*units: bytes) -> bytes:
    return REQUESTS.encode(Push(CHANNEL, units))


def test_a_channel_outlives_all_its_replicas() -> None:
    world = World(SYNC)
    for number in range(3):
        world.write(number, Increment(KEY, 1))
    world.run(30)
    before = world.digests()
    world.crash(*range(SIZE))
    assert world.digests() == before
    assert world.count("crdt_operations_recovered") == 3 * SIZE


def test_nothing_of_ours_leaves_before_it_is_durable() -> None:
    world = World(SYNC, sync_interval_s=QUIET, gossip_delay_ms=0)
    before, began = world.host.packets_sent, world.host.now
    world.write(2)
    world.host.run(began + SYNC)
    assert world.host.packets_sent == before
    assert world.results(2) == []
    world.host.run(began + SYNC + 1)
    assert world.host.packets_sent > before
    assert [type(each) for _, each in world.results(2)] == [Written]


def test_a_crash_before_the_sync_takes_what_nobody_has_seen() -> None:
    world = World(sync_ns=2 * SECOND)
    world.write(2, Increment(KEY, 1))
    world.host.run(world.host.now + SECOND)
    assert len(world.replica(2).history) == 2
    world.crash(2, seconds=60)
    assert {len(world.replica(each).history) for each in range(SIZE)} == {1}
    world.write(2, Increment(KEY, 1))
    world.run(30)
    assert {world.replica(each).document.counter(KEY) for each in range(SIZE)} == {1}
    assert not world.replica(0).history.forks


def test_what_is_pushed_is_acknowledged_when_it_is_durable() -> None:
    alone = opened()
    alone.ask(push(Author(2).write()))
    assert alone.told("rpc") == []
    [append] = appended(alone)
    alone.ask(REQUESTS.encode(Compare(CHANNEL, bytes(16))))
    assert alone.told("rpc") == [], "to tell what is held would say so too"
    alone.tell(Durable(append.token, STREAM, 1))
    pushed, compared, *_ = alone.told("rpc")
    assert isinstance(pushed, Respond)
    assert RESPONSES.decode(pushed.body) == Pushed(1, 0, 0)
    assert isinstance(compared, Respond)
    alone.ask(push(Author(2).write()))
    assert [type(each) for each in alone.told("rpc")] == [Respond], "what came again waits for nothing"


def test_before_its_stream_has_been_read_a_replica_answers_nobody_and_writes_wait() -> None:
    alone = Alone(journal=True)
    alone.ask(push(Author(2).write()))
    assert alone.told("rpc") == [Refuse(1, "starting")]
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    assert alone.results() == []
    alone.told("journal")
    alone.tell(Recovered(STREAM, None, (), True))
    [append] = appended(alone)
    alone.tell(Durable(append.token, STREAM, 1))
    assert [type(each) for each in alone.results()] == [Written]


def test_after_an_unclean_end_it_writes_when_others_have_agreed_and_says_so_to_the_journal() -> None:
    world = World(SYNC)
    world.write(2)
    world.run(10)
    for number in (0, 1, 3):
        world.host.down(number)
    world.crash(2)
    world.results(2)
    world.write(2)
    world.run(60)
    assert world.results(2) == []
    for number in (0, 1, 3):
        world.host.up(number)
    world.run(60)
    assert [type(each) for _, each in world.results(2)] == [Written]
    assert len(world.digests()) == 1
    assert not world.replica(0).history.forks


def test_who_was_closed_in_order_writes_at_once() -> None:
    world = World(SYNC)
    world.write(2)
    world.run(30)
    world.tell(2, Close(), to="journal")
    world.run(1)
    for number in range(SIZE):
        world.host.down(number)
    world.host.up(2)
    world.write(2)
    world.run(1)
    assert [type(each) for _, each in world.results(2)] == [Written]
    assert len(world.replica(2).history) == 3


def test_an_agreement_settles_the_stream() -> None:
    alone = opened(clean=False, confirmations=1)
    alone.run(QUIET // 8 * 2)
    [call] = [each for each in alone.told("rpc") if isinstance(each, Call)]
    alone.ask(call.body)
    [same] = [each for each in alone.told("rpc") if isinstance(each, Respond)]
    alone.tell(Completed(call.token, call.device, same.body, 0, bytes(32)))
    assert Settle(STREAM) in alone.told("journal")
    alone.tell(Describe(1, CHANNEL))
    [described] = alone.results()
    assert isinstance(described, Described)
    assert described.confirmed


def test_histories_are_written_anew_when_enough_was_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt_journal, "COMPACT_SIZE_MIN", 2_000)
    world = World(SYNC)
    for number in range(40):
        world.write(number % 3, Increment(KEY, number))
        world.run(1)
    world.run(10)
    before = world.digests()
    assert len(before) == 1
    world.crash(*range(SIZE))
    assert world.digests() == before
    assert world.count("journal_records_recovered") < 40 * SIZE


def test_records_that_are_not_what_was_written_are_counted_and_then_others_are_asked() -> None:
    good, bad = Author(2).write(), Author(2).write()[:-1]
    records = tuple(Record(number, 0, "crdt.unit", unit) for number, unit in enumerate((good, bad), 1))
    alone = opened(*records, confirmations=3)
    assert alone.host.counters["crdt_units_refused", "journal"] == 1
    assert len(alone.replica.history) == 2
    alone.tell(Describe(1, CHANNEL))
    [described] = alone.results()
    assert isinstance(described, Described)
    assert not described.confirmed
    assert opened(snapshot=b"no archive").host.counters["crdt_units_refused", "journal"] == 1


def test_a_clock_that_went_back_parks_nothing_that_was_taken_in_before() -> None:
    author = Author(1)
    author.clock = 1 << 56
    alone = opened(Record(1, 0, "crdt.unit", author.write()))
    assert len(alone.replica.history) == 2
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    tip = alone.replica.tip(DEVICES[1])
    assert tip is not None
    assert tip.sequence == 2


def test_what_would_wait_for_too_long_a_queue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt_journal, "HELD_MAX", 2)
    alone, author = opened(), Author(2)
    for _ in range(3):
        alone.ask(push(author.write()))
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    assert alone.told("rpc") == [Refuse(3, "overloaded")]
    assert alone.results() == [WriteRefused(1, CHANNEL, "overloaded")]
    assert len(alone.replica.history) == 3


def test_a_replica_that_lost_its_journal_takes_nothing_in_and_says_so() -> None:
    alone = opened()
    alone.ask(push(Author(2).write()))
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    alone.tell(JournalLost())
    assert alone.told("rpc") == [Refuse(1, "unavailable", happened="perhaps")]
    assert alone.results() == [WriteRefused(1, CHANNEL, "unwritten")]
    alone.ask(push(Author(0).write()))
    alone.tell(Write(2, CHANNEL, (Assign(KEY, 1),)))
    assert alone.told("rpc") == [Refuse(2, "unavailable")]
    assert alone.results() == [WriteRefused(2, CHANNEL, "unavailable")]
    assert "journal_lost" in [row.name for row in alone.host.events]
    data = alone.actor.to_bytes()
    assert type(alone.actor).from_bytes(data, alone.actor._setup).to_bytes() == data


def test_what_could_not_be_written_yet_is_refused_when_the_journal_is_lost() -> None:
    alone = Alone(journal=True)
    alone.tell(Write(1, CHANNEL, (Assign(KEY, 1),)))
    assert alone.results() == []
    alone.tell(JournalLost())
    alone.tell(Write(2, CHANNEL, (Assign(KEY, 1),)))
    assert alone.results() == [WriteRefused(each, CHANNEL, "unavailable") for each in (1, 2)]


def test_a_restored_host_with_disks_goes_on_where_the_saved_one_was() -> None:
    def play(restoring: bool) -> tuple[dict[int, bytes], set[bytes]]:
        world = World(SYNC)
        for window in range(40):
            if window % 5 == 0:
                world.write(window % 3, Increment(KEY, window))
            world.host.run(world.host.now + 7 * 1_000_000)
            if restoring:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
        world.run(30)
        return world.host.digests(), world.digests()

    assert play(True) == play(False)


def test_the_way_to_the_journal_goes_to_bytes_and_back() -> None:
    journal = CrdtJournal()
    journal.hold(Publish(CHANNEL, "app", 1, (bytes(32),)))
    data = journal.to_bytes()
    assert CrdtJournal.from_bytes(data).to_bytes() == data
    assert channel_of(STREAM) == CHANNEL
    with pytest.raises(LocalError):
        CrdtJournal.from_bytes(b"\x90")


def test_snapshots_are_told_to_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crdt_journal, "COMPACT_SIZE_MIN", 1)
    alone = opened()
    alone.ask(push(Author(2).write()))
    [append, snapshot] = alone.told("journal")
    assert isinstance(append, Append)
    assert isinstance(snapshot, Snapshot)
    again = opened(snapshot=snapshot.state)
    assert again.replica.digest() == alone.replica.digest()
