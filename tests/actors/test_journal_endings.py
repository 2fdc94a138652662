"""How a stream ends, and how a journal does: settled, forgotten, closed in order, or lost."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import host as host_module
from actors.actor import Actor
from actors.host import HandlerError, Host
from actors.journal import JournalActor
from protocols.errors import LocalError
from protocols.journal.counters import Counters
from protocols.journal.messages import (
    Append,
    Close,
    Closed,
    Entry,
    Forget,
    JournalLost,
    OpenStream,
    Recovered,
    Settle,
    Snapshot,
)
from protocols.journal.stream import RECORD_COST
from tests.actors.journal_world import SYNC, OtherWriter, Told, World, Writer
from tests.actors.worlds import MS

ALWAYS = 1 << 32


def close(world: World) -> None:
    """In order, as whoever takes a peer down does."""
    world.tell("a", Close())
    world.run(world.host.now + 3 * SYNC)
    assert world.writer().ends == [Closed()]
    world.crash()


# -- closed in order ------------------------------------------------------------------------------------------


def test_what_was_closed_in_order_is_clean_and_what_crashed_is_not_until_it_is_settled() -> None:
    world = World()
    for token, (settle, orderly) in enumerate(
        [(False, True), (False, False), (False, True), (True, False), (True, True), (False, True)], 1
    ):
        before = [world.recovery(service).clean for service in "ab"]
        world.append(token)
        world.append(token, service="b")
        if settle:
            world.tell("a", Settle(b"a"))
        world.run(world.host.now + SYNC)
        close(world) if orderly else world.crash()
        clean = [world.recovery(service).clean for service in "ab"]
        assert clean == [orderly and (before[0] or settle), orderly and before[1]]
        assert len(world.recovered()) == token


def test_counters_that_were_closed_in_order_count_on_at_once() -> None:
    world = World()

    def counters() -> Counters:
        """As an actor does it."""
        found, entries = Counters.recover(world.recovery())
        if entries:
            world.tell("a", Append(9, b"a", tuple(entries)))
            world.tell("a", Settle(b"a"))
        return found

    def reserve(known: Counters) -> int:
        reserved = known.reserve(b"name")
        world.tell("a", Append(1, b"a", (reserved.entry,)))
        world.run(world.host.now + SYNC)
        return reserved.first

    assert reserve(counters()) == 0
    close(world)
    assert reserve(counters()) == 1
    world.crash()
    known = counters()
    with pytest.raises(LocalError, match="in doubt"):
        known.reserve(b"name")
    close(world)
    known = counters()
    assert world.recovery().clean, "the doubt is in the counters, and the stream is settled"
    with pytest.raises(LocalError, match="in doubt"):
        known.reserve(b"name")
    world.tell("a", Append(2, b"a", tuple(known.confirm({b"name": 5}))))
    assert reserve(known) == 5
    close(world)
    assert reserve(counters()) == 6


def test_all_that_was_told_before_is_durable_when_the_journal_is_closed_and_the_store_is_free() -> None:
    world = World()
    world.append(1)
    world.run(MS)
    for token in (2, 3):
        world.append(token, service="b")
    world.tell("a", Close())
    world.run(SYNC)
    assert world.writer().ends == []
    world.run(2 * SYNC)
    assert world.told() == [(SYNC, 1, 1)]
    assert world.told("b") == [(2 * SYNC, 2, 1), (2 * SYNC, 3, 2)]
    assert world.writer().ends == [Closed()]
    world.disks.open(0).close()
    world.crash()
    assert (world.recovered(), world.recovered("b")) == ([b"1"], [b"2", b"3"])


def test_who_crashes_while_it_closes_has_crashed() -> None:
    world = World()
    world.append(1)
    world.run(SYNC)
    world.tell("a", Close())
    world.run(2 * SYNC - 1)
    world.crash()
    assert not world.recovery().clean
    assert world.recovered() == [b"1"]


@pytest.mark.parametrize(
    "message",
    [Append(1, b"a", (Entry("test", b""),)), Snapshot(1, b"a", b""), Forget(1, b"a"), Settle(b"a"), Close()],
)
@pytest.mark.parametrize("later", [0, 5 * SYNC])
def test_to_tell_a_journal_anything_after_it_was_closed_is_our_own_mistake(message: Told, later: int) -> None:
    world = World()
    world.tell("a", Close())
    world.run(later)
    with pytest.raises(HandlerError, match="told to close"):
        world.tell("b", message)


# -- forgotten ------------------------------------------------------------------------------------------------


def test_a_stream_that_is_forgotten_is_on_the_disk_no_more_and_can_begin_anew() -> None:
    world = World()
    world.append(1, b"secret")
    world.append(1, service="b")
    world.run(SYNC)
    before = world.disks._disks[0].used
    world.tell("a", Forget(2, b"a"))
    assert [token for _, token, _ in world.told()] == [1]
    world.run(2 * SYNC)
    assert world.told() == [(SYNC, 1, 1), (2 * SYNC, 2, 1)]
    assert world.disks._disks[0].used < before - 500
    world.tell("a", OpenStream(b"a"))
    assert world.recovery() == Recovered(b"a", None, (), True)
    world.append(3)
    world.run(3 * SYNC)
    world.crash()
    assert (world.recovered(), world.recovered("b")) == ([b"3"], [b"1"])


def test_to_forget_what_is_forgotten_is_answered_again() -> None:
    world = World()
    world.tell("a", Forget(1, b"never seen"))
    world.run(SYNC)
    assert world.told() == [(SYNC, 1, 0)]


@pytest.mark.parametrize("message", [Append(2, b"a", (Entry("test", b""),)), OpenStream(b"a")])
def test_a_stream_that_is_being_forgotten_is_not_to_be_used(message: Told) -> None:
    world = World()
    world.tell("a", Forget(1, b"a"))
    with pytest.raises(HandlerError, match=r"stream b'a' is (not )?open"):  # noqa: PT012 - at once, or with the batch
        world.tell("a", message)
        world.run(SYNC)


# -- lost -----------------------------------------------------------------------------------------------------


class Apart:
    """The journal on one host, and who writes on another."""

    def __init__(self, world: World, **options: Any) -> None:
        self.options = options
        self.world = world
        world.host.down(0)
        self.journals, self.writers = self.host(0, JournalActor), self.host(1, Writer, OtherWriter)
        world.host = self.writers
        for each in (self.journals, self.writers):
            each.up(0)
        self.exchange(1)

    def host(self, number: int, *classes: type[Actor]) -> Host:
        return Host(
            lambda peer, incarnation: (self.world.build(peer, incarnation)[0], classes),
            number=number,
            route=lambda peer, service: 0 if service == "journal" else 1,
            disks=self.world.disks if number == 0 else None,
            **self.options,
        )

    def exchange(self, until: int) -> None:
        hosts = (self.journals, self.writers)
        for _ in range(4):
            for each, other in (hosts, hosts[::-1]):
                each.run(until)
                other.accept(each.take_outbox(other.number))


def test_who_outlives_the_journal_on_another_host_is_told() -> None:
    world = World(sync_failure=ALWAYS)
    apart = Apart(world)
    assert world.recovery() == Recovered(b"a", None, (), True)
    world.append(1)
    apart.exchange(2)
    assert (apart.journals.running, apart.writers.running) == (0, 1)
    assert apart.journals.counters["disks_failed", "io"] == 1
    for service in "ab":
        assert world.writer(service).ends == [JournalLost()]
    assert world.told() == []


# -- limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sync_ns", [0, SYNC])
def test_more_than_a_journal_takes_at_once_becomes_several_batches(
    monkeypatch: pytest.MonkeyPatch, sync_ns: int
) -> None:
    monkeypatch.setattr("protocols.journal.stream.PENDING_SIZE_MAX", 3 * (RECORD_COST + 100))
    world = World(sync_ns=sync_ns)
    for token in range(1, 9):
        world.append(token, bytes(100), service="ab"[token % 2])
    world.run(SYNC)
    if sync_ns:
        assert len(world.told("a") + world.told("b")) == 3
        world.tell("a", Close())
        world.run(3 * SYNC)
    assert world.count("journal_batches") == 3
    assert world.count("journal_records") == 8
    assert world.told("a") + world.told("b") == [
        ((token + 2) // 3 * sync_ns, token, (token + 1) // 2) for token in (2, 4, 6, 8, 1, 3, 5, 7)
    ]
    assert len(world.writer().ends) == bool(sync_ns)


def test_a_full_mailbox_sheds_nothing_that_goes_to_the_journal_or_comes_from_it() -> None:
    world = World(mailbox_size_max=0)
    for token in range(1, 4):
        world.append(token)
    world.run(SYNC)
    assert [token for _, token, _ in world.told()] == [1, 2, 3]
    assert all(name != "mailbox_shed" for name, _ in world.host.counters)


def test_nor_do_full_mailboxes_and_outboxes_between_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "OUTBOX_SIZE_MAX", 0)
    world = World(sync_ns=0)
    apart = Apart(world, mailbox_size_max=0)
    for token in range(1, 4):
        world.append(token)
    apart.exchange(2)
    assert [token for _, token, _ in world.told()] == [1, 2, 3]


def test_a_journal_whose_host_comes_up_later_is_told_all_the_same() -> None:
    world = World(sync_ns=0)
    apart = Apart(world, mailbox_size_max=0)
    for each in (apart.journals, apart.writers):
        each.down(0)
    apart.writers.up(0)
    apart.exchange(2)
    apart.journals.up(0)
    apart.exchange(3)
    assert world.recovery() == Recovered(b"a", None, (), True)


# -- state ----------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.integers(0, 15), st.sampled_from(["append", "settle", "forget", "close", "crash", "open"])),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_restored_journal_ends_as_the_saved_one_would_have(steps: list[tuple[int, str]]) -> None:
    def play(*, checkpoints: bool) -> tuple[object, ...]:
        world = World()
        there, closed, found = True, False, []
        for number, (delay, step) in enumerate(steps, 1):
            world.run(world.host.now + delay * MS)
            if checkpoints:
                data = world.host.to_bytes()
                world.host = world.new_host()
                world.host.restore(data)
                assert world.host.to_bytes() == data
            if step == "crash":
                world.crash()
                there, closed = True, False
                found.append([world.recovery(service) for service in "ab"])
            elif closed:
                continue
            elif step == "append":
                world.append(number, service="a" if there else "b")
            elif step == "close":
                world.tell("b", Close())
                closed = True
            elif step == "forget" and there:
                world.tell("a", Forget(number, b"a"))
                there = False
            elif step == "settle":
                world.tell("b", Settle(b"b"))
            elif step == "open" and not there and world.told() and world.writer().answers[-1][1].token < number:
                gone = world.host.actor(0, "journal")
                assert isinstance(gone, JournalActor)
                if b"a" not in gone._streams:
                    world.tell("a", OpenStream(b"a"))
                    there = True
        world.run(world.host.now + 100 * MS)
        told = [world.told(service) for service in "ab"]
        return found, told, world.host.digests(), world.host.counters, world.host.to_bytes()

    assert play(checkpoints=False) == play(checkpoints=True)
