"""DHT nodes with a journal: nobody hears of a record before it is durable, and who comes up again has it."""

import pytest

from actors import dht_journal
from actors.dht_journal import DhtJournal
from actors.dht_node import EARLY_MAX, DhtNode
from protocols.errors import LocalError
from protocols.journal.messages import Append, Close, Closed, Durable, JournalLost, OpenStream, Recovered
from protocols.kademlia.config import KademliaConfig
from protocols.kademlia.kept import OWN
from protocols.kademlia.messages import Find, FindDone, Get, GetDone, Leave, Put, PutDone
from protocols.kademlia.records import record_key
from protocols.rpc.calls import Call, Refuse, Respond
from tests.actors.dht_journal_world import IDENTITIES, KEY, SECOND, SIZE, SYNC, Early, World, incoming, store
from tests.actors.worlds import MS


def test_a_record_outlives_all_who_hold_it() -> None:
    world = World()
    world.put()
    world.run()
    assert [len(world.dht(number).node.store) for number in range(SIZE)] == [1] * SIZE
    world.crash(*range(SIZE))
    assert world.count("kad_records_recovered") == SIZE
    for number in range(SIZE):
        record = world.get(number).record
        assert record is not None
        assert record.value == b"value"


def test_nothing_of_our_record_leaves_before_it_is_durable() -> None:
    world = World()
    before = world.host.packets_sent
    began = world.host.now
    world.put()
    world.host.run(began + SYNC)
    assert world.host.packets_sent == before
    world.host.run(began + SYNC + 1)
    assert world.host.packets_sent > before


def test_stored_is_said_when_it_is_durable() -> None:
    slow, fast = World(sync_ns=200 * MS), World(sync_ns=0)
    took = []
    for world in (slow, fast):
        began = world.host.now
        world.put()
        world.run()
        [(at, done)] = world.results(3)
        assert isinstance(done, PutDone)
        assert done.stored == SIZE
        took.append(at - began)
    assert took[0] - took[1] == 400 * MS, "our own sync, and then that of whoever stores it"


def test_a_holder_that_crashes_before_its_sync_has_told_nobody_that_it_holds_it() -> None:
    world = World(sync_ns=2 * SECOND)
    began = world.host.now
    world.put()
    world.host.run(began + 3 * SECOND)
    assert len(world.dht(0).node.store) == 1
    world.crash(0)
    world.run()
    [(_, done)] = world.results(3)
    assert isinstance(done, PutDone)
    assert done.stored == SIZE - 1
    assert len(world.dht(0).node.store) == 0


def test_a_publisher_that_crashes_publishes_under_a_higher_sequence() -> None:
    world = World()
    for value in (b"old", b"new"):
        world.put(value)
    world.run()
    following = world.dht(3).node.next_sequence(KEY, 0)
    world.crash(3)
    assert world.dht(3).node.next_sequence(KEY, 0) == following > 1, "even by a clock that went back"
    world.put(b"newest")
    world.run()
    world.results(3)
    record = world.get(2).record
    assert record is not None
    assert record.value == b"newest"


def test_what_was_written_down_is_replaced_by_a_snapshot_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_journal, "CHANGES_MIN", 4)
    world = World()
    for number in range(15):
        world.put(b"%d" % number)
        world.run()
    store = world.dht(0).node.kept()
    world.crash(0)
    assert world.count("journal_records_recovered") < 8
    assert world.count("kad_records_recovered") == 1
    assert world.dht(0).node.kept() == store


def test_a_restored_host_goes_on_where_the_saved_one_was() -> None:
    def play(restoring: bool) -> tuple[dict[int, bytes], GetDone]:
        world = World()
        world.put()
        for window in range(60):
            world.host.run(window * 5 * MS)
            if restoring:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
        world.run()
        return world.host.digests(), world.get(1)

    assert play(True) == play(False)


# -- before the journal has been read ---------------------------------------------------------------------------


def test_a_node_answers_nobody_and_asks_nobody_before_its_journal_has_been_read() -> None:
    early = Early()
    assert early.told("journal") == [OpenStream(b"dht")]
    for command in (Find("app", 1, bytes(32)), Get("app", 2, KEY), Put("app", 3, b"name", b"value", 60)):
        early.tell(command)
    early.tell(incoming(7))
    assert early.told("rpc") == [Refuse(7, "starting")]
    assert early.results() == []
    early.tell(Recovered(b"dht", None, (), True))
    asked = early.told("rpc")
    assert asked
    assert all(isinstance(each, Call) for each in asked)
    [append] = early.told("journal")
    assert isinstance(append, Append)
    assert [entry.kind for entry in append.entries] == [OWN]
    early.tell(Durable(append.token, b"dht", 1))
    assert early.told("rpc")
    early.tell(incoming(8))
    assert isinstance(early.told("rpc")[-1], Respond)


def test_commands_beyond_what_can_wait_are_answered_at_once() -> None:
    early = Early()
    for token in range(EARLY_MAX):
        early.tell(Find("app", token, bytes(32)))
    assert early.results() == []
    for command in (Find("app", 1, bytes(32)), Get("app", 2, KEY), Put("app", 3, b"name", b"value", 60), Leave()):
        early.tell(command)
    assert [type(result) for result in early.results()] == [FindDone, GetDone, PutDone]


def test_a_node_that_is_told_to_leave_before_it_began_leaves_when_it_has() -> None:
    early = Early()
    early.tell(Leave())
    early.tell(Recovered(b"dht", None, (), True))
    early.tell(Find("app", 1, bytes(32)))
    [found] = early.results()
    assert found == FindDone(1, bytes(32), (), 0, 0)


def test_a_restored_node_waits_for_what_the_saved_one_waited_for() -> None:
    early = Early()
    early.tell(Find("app", 1, bytes(32)))
    saved = early.host.actor(0, "dht")
    assert isinstance(saved, DhtNode)
    data = saved.to_bytes()
    assert DhtNode.from_bytes(data, saved._setup).to_bytes() == data
    early.tell(Recovered(b"dht", None, (), True))
    early.tell(Put("app", 3, b"name", b"value", 60))
    data = saved.to_bytes()
    assert DhtNode.from_bytes(data, saved._setup).to_bytes() == data


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x92\xc4\x00\x00"])
def test_what_is_no_state_is_refused(data: bytes) -> None:
    with pytest.raises(LocalError):
        DhtJournal.from_bytes(data)


def test_puts_beyond_what_can_wait_for_the_disk_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_journal, "HELD_MAX", 2)
    early = Early()
    early.tell(Recovered(b"dht", None, (), True))
    for token in range(3):
        early.tell(Put("app", token, b"%d" % token, b"value", 60))
    assert [result.token for result in early.results() if isinstance(result, PutDone)] == [2]


def test_a_record_without_a_place_among_the_published_is_not_written_down() -> None:
    early = Early(KademliaConfig(published_max=1))
    early.tell(Recovered(b"dht", None, (), True))
    for token in range(2):
        early.tell(Put("app", token, b"%d" % token, b"value", 60))
    assert [type(each) for each in early.told("journal")] == [OpenStream, Append]
    assert [result.token for result in early.results() if isinstance(result, PutDone)] == [1]


# -- a disk that is too slow, or gone ---------------------------------------------------------------------------


def test_records_beyond_what_can_wait_for_the_disk_are_refused_and_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_journal, "HELD_MAX", 2)
    early = Early()
    early.tell(Recovered(b"dht", None, (), True))
    early.told("rpc")
    for call in range(4):
        early.tell(store(call))
    assert early.told("rpc") == [Refuse(2, "overloaded"), Refuse(3, "overloaded")]
    assert early.host.counters["kad_records_rejected", "overloaded"] == 2
    early.tell(incoming(7))
    assert [type(each) for each in early.told("rpc")] == [Respond], "what needs no disk is answered all the same"
    for write in early.told("journal"):
        if isinstance(write, Append):
            early.tell(Durable(write.token, b"dht", write.token))
    assert [each.call for each in early.told("rpc") if isinstance(each, Respond)] == [0, 1]
    early.tell(store(2))
    assert early.told("rpc") == []
    assert [type(each) for each in early.told("journal")] == [Append]


def test_a_flood_of_records_is_shed_by_a_disk_that_takes_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_journal, "HELD_MAX", 8)
    world = World(sync_ns=60 * SECOND)
    world.run(60 * SECOND)
    for number in range(3):
        for name in range(8):
            world.tell(number, Put("app", name, b"%d" % name, b"value", 3_600))
    world.run(600 * SECOND)
    assert world.count("kad_records_rejected", "overloaded") > 0
    assert world.count("kad_records_stored") > 0
    assert sum(len(world.results(number)) for number in range(3)) == 24, "everybody is answered"
    for number in range(SIZE):
        held = len(world.dht(number).node.store)
        world.crash(number)
        assert len(world.dht(number).node.store) == held > 0


def test_a_node_that_left_and_closed_its_journal_has_a_clean_start() -> None:
    world = World()
    world.put()
    world.run()
    world.results(0)
    world.tell(0, Leave())
    world.tell(0, Close(), to="journal")
    world.tell(3, Put("app", 1, b"other", b"value", 3_600))
    world.run()
    assert [result for _, result in world.results(0)] == [Closed()]
    assert world.count("kad_records_rejected", "unavailable") == 1
    world.crash(0)
    assert world.count("journal_streams", "clean") == 1
    assert world.count("journal_streams", "unclean") == 0
    assert len(world.dht(0).node.store) == 1


def test_a_node_that_lost_its_journal_stores_nothing_and_says_so() -> None:
    early = Early()
    early.tell(Recovered(b"dht", None, (), True))
    early.tell(store(1))
    early.tell(Put("app", 3, b"name", b"value", 60))
    early.told("rpc")
    early.tell(JournalLost())
    assert early.told("rpc") == [Refuse(1, "unavailable", happened="perhaps")]
    early.told("journal")
    early.tell(store(2))
    assert early.told("rpc") == [Refuse(2, "unavailable")]
    early.tell(Put("app", 4, b"name", b"value", 60))
    key = record_key(IDENTITIES[0].device_public, b"name")
    assert early.results() == [PutDone(3, key, 0, 0, 0), PutDone(4, key, 0, 0, 0)]
    early.tell(incoming(7))
    assert [type(each) for each in early.told("rpc")] == [Respond]
    assert early.told("journal") == []
    assert "journal_lost" in [row.name for row in early.host.events]
    saved = early.host.actor(0, "dht")
    assert isinstance(saved, DhtNode)
    data = saved.to_bytes()
    assert DhtNode.from_bytes(data, saved._setup).to_bytes() == data
