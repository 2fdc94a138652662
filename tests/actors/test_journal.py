"""The journal among actors that write: what goes into a batch, when they are told, and what a crash leaves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.host import HandlerError, Host
from actors.journal import JournalActor
from cluster.charges import LAPTOP, Costs
from protocols.errors import LocalError
from protocols.journal.messages import Append, Entry, Recovered, Snapshot
from protocols.journal.store import Table
from tests.actors.journal_world import SYNC, Setup, World, damage
from tests.actors.worlds import MS

ALWAYS = 1 << 32


def test_a_new_stream_is_empty_and_writes_nothing() -> None:
    world = World()
    assert world.writer().recovered == Recovered(b"a", None, (), True)
    world.run(MS)
    assert world.count("journal_batches") == 0
    assert world.count("journal_streams", "new") == 2


def test_whatever_is_told_in_one_turn_is_one_batch() -> None:
    world = World()
    for token in range(1, 6):
        world.append(token)
        world.append(token, b"x", b"y", service="b")
    world.run(SYNC)
    assert world.count("journal_batches") == 1
    assert world.count("journal_records") == 15
    assert world.told("a") == [(SYNC, token, token) for token in range(1, 6)]
    assert world.told("b") == [(SYNC, token, 2 * token) for token in range(1, 6)]


def test_nobody_is_told_before_the_stores_own_time() -> None:
    world = World()
    world.append(1)
    world.run(SYNC - 1)
    assert world.told() == []
    world.run(SYNC)
    assert world.told() == [(SYNC, 1, 1)]


def test_what_is_sealed_is_charged_and_the_sync_begins_no_earlier() -> None:
    world = World(costs=LAPTOP)
    world.append(1, bytes(1_000_000))
    world.run(SYNC)
    assert world.told() == []
    world.run(2 * SYNC)
    [(told_at, _, _)] = world.told()
    assert told_at > SYNC + MS


def test_a_store_that_is_durable_at_once_answers_at_once() -> None:
    world = World(sync_ns=0)
    world.append(1)
    world.run(0)
    assert world.told() == [(0, 1, 1)]


def test_while_a_batch_is_under_way_the_next_one_gathers() -> None:
    world = World()
    world.append(1)
    for token in range(2, 12):
        world.run((token - 1) * MS // 2)
        world.append(token)
    world.run(2 * SYNC)
    assert world.count("journal_batches") == 2
    assert world.told() == [(SYNC, 1, 1), *((2 * SYNC, token, token) for token in range(2, 12))]


def test_appends_are_acknowledged_in_the_order_in_which_they_were_told() -> None:
    world = World()
    for token in range(40):
        world.append(token + 1, service="ab"[token % 2])
        world.run(token * 3 * MS)
    world.run(1_000 * MS)
    for service in "ab":
        told = world.told(service)
        assert [token for _, token, _ in told] == [t for t in range(1, 41) if "ab"[(t - 1) % 2] == service]
        assert [sequence for _, _, sequence in told] == list(range(1, 21))


def test_a_crash_loses_what_was_not_acknowledged_and_nothing_else() -> None:
    world = World()
    world.append(1)
    world.append(1, service="b")
    world.run(SYNC)
    world.append(2)
    world.run(SYNC + MS)
    world.append(3)
    world.crash()
    assert world.recovered() == [b"1"]
    assert world.recovered("b") == [b"1"]
    world.append(4)
    world.run(10 * SYNC)
    world.crash()
    assert world.recovered() == [b"1", b"4"]
    assert world.count("journal_streams", "unclean") == 4
    assert world.count("journal_torn") == 0


def test_a_torn_tail_is_dropped_and_reported() -> None:
    world = World(torn=ALWAYS)
    world.append(1)
    world.run(SYNC)
    world.append(2)
    world.run(SYNC + MS)
    world.crash()
    assert world.recovered() == [b"1"]
    assert world.count("journal_torn") == 1
    torn = world.count("journal_torn_bytes")
    assert torn > 0
    assert [(row.name, row.fields) for row in world.host.events] == [("journal_torn", {"bytes": torn})]
    recovered = world.recovery()
    assert (recovered.torn, recovered.clean) == (torn, False)


def test_a_damaged_snapshot_that_was_not_needed_is_reported() -> None:
    world = World()
    for token in (1, 3, 5):
        world.append(token)
        world.tell("a", Snapshot(token + 1, b"a", b"after %d" % token))
        world.run((token + 1) * SYNC)
    world.host.down(0)
    damage(world, Table.SNAPSHOT, 3)
    world.host.up(0)
    recovered = world.recovery()
    assert (recovered.snapshot, world.recovered(), recovered.damaged) == (b"after 3", [b"5"], (3,))
    assert world.count("journal_snapshots_damaged") == 1
    assert [(row.name, row.fields) for row in world.host.events] == [
        ("journal_damaged", {"stream": b"a".hex(), "sequence": 3})
    ]


def test_recovery_is_the_newest_snapshot_and_what_came_after() -> None:
    world = World()
    world.append(1)
    world.tell("a", Snapshot(2, b"a", b"after 1"))
    world.append(3)
    world.run(SYNC)
    assert [token for _, token, _ in world.told()] == [1, 2, 3]
    world.crash()
    recovered = world.recovery()
    assert (recovered.snapshot, world.recovered()) == (b"after 1", [b"3"])


def test_what_is_erased_is_on_the_disk_no_more() -> None:
    world = World()
    world.append(1, b"secret")
    world.run(SYNC)
    stream = next(iter(world.disks._disks[0]._rows))[1]
    keys = [row.data for row in world.disks._disks[0].rows(Table.KEY, stream)]
    world.tell("a", Snapshot(2, b"a", b"new state", erase=True))
    world.run(2 * SYNC)
    left = [row.data for table in Table for row in world.disks._disks[0].rows(table, stream)]
    assert len(keys) == 1
    assert keys[0] not in left
    world.crash()
    assert world.recovered() == []


@pytest.mark.parametrize("costs", [None, LAPTOP])
def test_a_failed_sync_takes_the_peer_down_and_not_the_run(costs: Costs | None) -> None:
    world = World(sync_failure=ALWAYS, costs=costs, down_at=100 * MS)
    world.append(1)
    world.run(SYNC)
    assert world.host.running == 0
    world.run(200 * MS)
    assert world.count("peers_stopped") == 1, "when its time came, it was down already"
    assert world.count("disks_failed", "io") == 1
    assert [row.name for row in world.host.events] == ["disk_failed"]
    world.host.up(0)
    assert world.recovered() == []


def test_a_full_disk_takes_the_peer_down_with_all_it_had_acknowledged() -> None:
    world = World(size_max=4_000)
    world.append(1, bytes(1_000))
    world.run(SYNC)
    world.append(2, bytes(4_000))
    world.run(2 * SYNC)
    assert world.count("disks_failed", "full") == 1
    world.host.up(0)
    assert world.recovered() == [bytes(1_000)]


ALTERED = "the stream b'a' is not what was written: the group of records from 1 does not verify"


def test_an_altered_row_is_no_accident_and_stops_a_run_of_virtual_time() -> None:
    world = World()
    world.append(1)
    world.run(SYNC)
    world.host.down(0)
    damage(world, Table.GROUP, 1)
    with pytest.raises(HandlerError, match=f"JournalActor of peer 0 .*JournalError: {ALTERED}"):
        world.host.up(0)


def test_an_altered_row_stops_its_peer_in_real_time() -> None:
    world = World(real_time=True)
    world.append(1)
    world.run(SYNC)
    world.run(3 * SYNC)
    assert len(world.told()) == 1
    world.host.down(0)
    damage(world, Table.GROUP, 1)
    world.host.up(0)
    assert world.host.running == 0
    [row] = world.host.events
    assert row.name == "quarantined"
    assert ALTERED in str(row.fields["detail"])
    assert world.count("peers_quarantined") == 1


@pytest.mark.parametrize("message", [Append(1, b"c", (Entry("test", b""),)), Snapshot(1, b"c", b"")])
def test_a_stream_that_is_not_open_is_our_own_mistake(message: Append | Snapshot) -> None:
    with pytest.raises(HandlerError, match="stream b'c' is not open"):
        World().tell("a", message)


def test_a_journal_needs_a_store() -> None:
    host = Host(lambda peer, incarnation: (Setup(None), [JournalActor]))
    with pytest.raises(HandlerError, match="needs a store"):
        host.up(0)


def test_what_is_no_state_is_refused() -> None:
    world = World()
    actor = world.host.actor(0, "journal")
    assert isinstance(actor, JournalActor)
    data = actor.to_bytes()
    for wrong in (b"", data[:-1], data[:1] + b"\x63" + data[2:]):
        with pytest.raises(LocalError):
            JournalActor.from_bytes(wrong, Setup(None))  # type: ignore[arg-type]


STEPS = st.lists(
    st.tuples(st.integers(0, 25), st.sampled_from(["a", "b", "snapshot", "crash", "checkpoint"])), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([0, ALWAYS]))
def test_whatever_crashes_the_acknowledged_is_there_and_checkpoints_change_nothing(
    steps: list[tuple[int, str]], torn: int
) -> None:
    def play(*, checkpoints: bool) -> tuple[Host, list[object]]:
        world = World(torn=torn)
        lives: list[object] = []
        told: dict[str, list[bytes]] = {"a": [], "b": []}
        acknowledged = {"a": 0, "b": 0}

        def note() -> None:
            for service in "ab":
                for _, _, sequence in world.told(service):
                    acknowledged[service] = max(acknowledged[service], sequence)

        for number, (delay, step) in enumerate(steps):
            world.run(world.host.now + delay * MS)
            note()
            if step in told:
                payload = b"%d" % number
                told[step].append(payload)
                world.append(number + 1, payload, service=step)
            elif step == "snapshot":
                world.tell("a", Snapshot(number + 1, b"a", b"%d" % len(told["a"])))
            elif step == "checkpoint" and checkpoints:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
            elif step == "crash":
                world.crash()
                for service in "ab":
                    base = int(world.recovery(service).snapshot or b"0")
                    there = told[service][:base] + world.recovered(service)
                    assert there == told[service][: len(there)]
                    assert len(there) >= acknowledged[service]
                    told[service] = there
                    lives.append(there)
                note()
        world.run(world.host.now + 100 * MS)
        lives.append([world.told("a"), world.told("b")])
        return world.host, lives

    straight, restored = play(checkpoints=False), play(checkpoints=True)
    assert straight[1] == restored[1]
    assert straight[0].digests() == restored[0].digests()
    assert straight[0].counters == restored[0].counters
