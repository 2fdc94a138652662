"""The workload actor: it asks when it is time, and notes what came back, once."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from actors.actor import Actor, handles
from actors.context import Context
from actors.host import EventRow, Host
from cluster.operations import Content, Operation, outcomes, record_name
from cluster.population import SimulatedSetup
from cluster.scenario import Scenario
from cluster.workload import Workload
from cluster.world import World
from protocols.errors import LocalError
from protocols.identity import DeviceIdentity
from protocols.kademlia.messages import Get, GetDone, Put, PutDone
from protocols.kademlia.records import Record, record_key
from protocols.messages import Message

S = 1_000_000_000
IDENTITY = DeviceIdentity.generate(bytes(range(64)), b"test")
CONTENT = Content(1, 64, 600)
KEY = record_key(IDENTITY.device_public, record_name(0))


class Answer(Message, frozen=True, tag="test.answer"):
    done: GetDone | PutDone


class FakeDht(Actor):
    """Answers by script: per token how long it takes, and with what."""

    __slots__ = ()
    service: ClassVar[str] = "dht"
    script: ClassVar[dict[int, tuple[int, GetDone | PutDone]]] = {}
    asked: ClassVar[list[tuple[int, Message, bytes]]] = []

    def __init__(self, setup: SimulatedSetup) -> None:
        pass

    @handles(Put, Get)
    def ask(self, message: Put | Get, ctx: Context) -> None:
        self.asked.append((ctx.now, message, ctx.trace))
        assert message.service == ctx.sender == "workload"
        if message.token in self.script:
            delay, done = self.script[message.token]
            ctx.after(delay, Answer(done))

    @handles(Answer)
    def answer(self, message: Answer, ctx: Context) -> None:
        ctx.send("workload", message.done)


def setup(operations: Sequence[Operation], content: Content | None = CONTENT) -> SimulatedSetup:
    return SimulatedSetup(identity=IDENTITY, endpoint=3, operations=tuple(operations), content=content)


def run(
    operations: Sequence[Operation],
    script: dict[int, tuple[int, Any]],
    down_at: int | None = None,
    sample: float = 1.0,
) -> Host:
    FakeDht.script, FakeDht.asked = script, []
    host = Host(lambda peer, incarnation: (setup(operations), (FakeDht, Workload)), sample=sample)
    host.schedule(3, 0, down_at)
    host.run(100 * S)
    return host


def record(value: bytes) -> Record:
    return Record.sign(IDENTITY.signing, record_name(0), 1, value, 600)


def found(token: int, value: bytes | None = None, local: bool = False) -> GetDone:
    return GetDone(token, KEY, True, record(CONTENT.value(0) if value is None else value), 2, 7, local)


def get(number: int, at_s: int) -> Operation:
    return Operation(number, "get", at_s * S, (at_s + 10) * S, 0, KEY)


def told(host: Host) -> list[tuple[int, int, str]]:
    return [(each.time, int(each.fields["number"]), str(each.fields["outcome"])) for each in host.events]


def test_put_is_asked_at_its_time_with_its_content() -> None:
    put = Operation(0, "put", 5 * S, 15 * S, 0, KEY)
    host = run([put], {0: (S, PutDone(0, KEY, 20, 3, 60))})
    [(at, message, _)] = FakeDht.asked
    assert at == 5 * S
    assert message == Put("workload", 0, record_name(0), CONTENT.value(0), 600)
    assert told(host) == [(6 * S, 0, "ok")]


def test_put_that_nobody_took_is_said() -> None:
    put = Operation(0, "put", 5 * S, 15 * S, 0, KEY)
    assert told(run([put], {0: (S, PutDone(0, KEY, 0, 3, 60))})) == [(6 * S, 0, "not_stored")]


@pytest.mark.parametrize(
    ("done", "outcome"),
    [
        (found(4), "ok"),
        (found(4, local=True), "local"),
        (found(4, b"forged"), "wrong"),
        (found(4, b"forged", local=True), "wrong"),
        (GetDone(4, KEY, False, None, 2, 7, False), "not_found"),
    ],
)
def test_outcome_of_a_get_is_what_came_back(done: GetDone, outcome: str) -> None:
    assert told(run([get(4, 5)], {4: (S, done)})) == [(6 * S, 4, outcome)]


def test_answer_after_the_deadline_finds_nobody_waiting() -> None:
    assert told(run([get(4, 5)], {4: (11 * S, found(4))})) == [(15 * S, 4, "timeout")]


def test_answer_that_comes_twice_counts_once() -> None:
    FakeDht.script, FakeDht.asked = {4: (S, found(4))}, []
    host = Host(lambda peer, incarnation: (setup([get(4, 5)]), (FakeDht, Workload)))
    host.schedule(3, 0)
    host.run(7 * S)
    host.tell(3, "workload", found(4))
    host.run(100 * S)
    assert told(host) == [(6 * S, 4, "ok")]


def test_operations_overlap_and_each_has_its_own_deadline() -> None:
    operations = [get(1, 5), get(2, 5), get(3, 9), get(4, 30)]
    host = run(operations, {2: (S, found(2)), 4: (S, found(4))})
    assert [at for at, _, _ in FakeDht.asked] == [5 * S, 5 * S, 9 * S, 30 * S]
    assert told(host) == [(6 * S, 2, "ok"), (15 * S, 1, "timeout"), (19 * S, 3, "timeout"), (31 * S, 4, "ok")]


def test_peer_that_goes_down_leaves_its_get_interrupted() -> None:
    operations = (get(1, 5), get(2, 20))
    host = run(operations, {}, down_at=25 * S)
    world = World(Scenario.from_table({"name": "x", "peers": 9, "duration_s": 300}))
    world._schedules[3] = ((0, 25 * S),)
    rows = outcomes({3: operations}, host.events, world, 300 * S)
    assert [row.key for row in rows] == [KEY, KEY]
    assert [(row.number, row.outcome) for row in rows] == [(1, "timeout"), (2, "interrupted")]


def test_every_get_is_the_root_of_a_trace_that_travels() -> None:
    host = run([get(1, 5), get(2, 5)], {1: (S, found(1)), 2: (S, found(2))})
    assert [(row.span.name, row.span.start, row.end) for row in host.spans] == [("get", 5 * S, 6 * S)] * 2
    assert [row.attributes["outcome"] for row in host.spans] == ["ok", "ok"]
    traces = [trace for _, message, trace in FakeDht.asked if isinstance(message, Get)]
    assert traces == [row.span.trace for row in host.spans]


def test_sampling_changes_no_digest() -> None:
    script = {1: (S, found(1))}
    all_kept, none_kept = (run([get(1, 5)], script, sample=sample) for sample in (1.0, 0.0))
    assert (len(all_kept.spans), len(none_kept.spans)) == (1, 0)
    assert all_kept.digests() == none_kept.digests()


@pytest.mark.parametrize("stop_s", [1, 5, 8, 12, 16, 31])
def test_restored_actor_goes_on_where_it_was(stop_s: int) -> None:
    operations = [get(1, 5), get(2, 7), get(3, 30)]
    FakeDht.script, FakeDht.asked = {1: (4 * S, found(1)), 3: (S, found(3))}, []
    host = Host(lambda peer, incarnation: (setup(operations), (FakeDht, Workload)))
    host.schedule(3, 0)
    host.run(stop_s * S)
    context = host._peer(3).contexts["workload"]
    before = context.actor.to_bytes()
    context.actor = Workload.from_bytes(before, setup(operations))
    assert context.actor.to_bytes() == before
    host.run(100 * S)
    assert told(host) == [(9 * S, 1, "ok"), (17 * S, 2, "timeout"), (31 * S, 3, "ok")]


def test_foreign_state_is_refused() -> None:
    for data in (b"", b"\x00", bytes(40)):
        with pytest.raises(LocalError):
            Workload.from_bytes(data, setup(()))


def test_workload_without_content_is_our_own_mistake() -> None:
    with pytest.raises(LocalError, match="content"):
        Workload(setup((), content=None))


def test_event_rows_have_the_fields_of_an_outcome() -> None:
    [event] = run([get(4, 5)], {4: (S, found(4))}).events
    assert isinstance(event, EventRow)
    assert list(event.fields) == ["number", "key", "asked_at", "outcome", "hops", "rpcs"]
