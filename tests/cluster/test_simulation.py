"""One scenario, one digest: wherever it runs, however it is cut, whoever watches, whatever is charged."""

import os
import signal
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import ray

from actors.host import HandlerError, Host
from cluster.charges import TABLES
from cluster.exchange import ShardLostError
from cluster.network import Network
from cluster.population import Population
from cluster.ray_shards import RayShards, start_ray
from cluster.registry import WORKLOADS
from cluster.scenario import Scenario
from cluster.simulation import Outcome, Progress, overall_digest, simulate
from cluster.world import World
from protocols.errors import LocalError
from protocols.journal.messages import Recovered
from protocols.kademlia.kept import Change
from protocols.kademlia.messages import REQUESTS, RESPONSES, PutDone, Store, Stored
from protocols.kademlia.records import Record
from protocols.messages import Message
from protocols.rpc.calls import Incoming, Respond
from tests.cluster.runs import (
    alive,
    check_interrupted,
    eventually,
    inline,
    interrupt,
    on_ray,
    python,
    small,
    took_at_most,
)


@pytest.fixture(scope="module")
def one_node() -> Iterator[None]:
    """A Ray of one node with room for three shards."""
    start_ray(None, 3)
    yield
    ray.shutdown()


DISKS: Final = {
    "churn__model": "exponential",
    "churn__mean_session_s": 30,
    "churn__mean_downtime_s": 10,
    "disk__kind": "simulated",
    "disk__sync_ms": 400,
    "disk__torn": 1,
    "disk__sync_failure": 0.02,
}
"""Options under which disks do everything that they can do."""

PROOFS: Final[dict[str, Any]] = {
    "workload": {"kind": "possession", "min_uptime_s": 10, "options": {"proofs": 120, "revoked": 0.1}},
    "adversaries": [{"kind": "impostor", "count": 1, "options": {"rate_per_s": 10}}],
}
"""Options under which devices prove their keys, and one proves others'."""


@cache
def reference(charge: str) -> Outcome:
    """The run that all others are compared with."""
    return inline(charge=charge)


@cache
def with_disks() -> Outcome:
    """The same of peers with disks."""
    return inline(**DISKS)


# -- one digest ---------------------------------------------------------------------------------------------


def test_a_run_repeats_itself_and_does_something() -> None:
    outcome = reference("free")
    again = inline()
    assert again.digest == outcome.digest
    assert again.handled == outcome.handled > 20_000
    assert again.counters() == outcome.counters()
    assert outcome.counters()["gets", "ok"] + outcome.counters().get(("gets", "local"), 0) > 40
    assert outcome.counters()["packets_dropped", "lost"] > 0
    assert outcome.counters()["peers_stopped", ""] > 0


@pytest.mark.parametrize("charge", ["free", "laptop"])
@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.usefixtures("one_node")
def test_shards_do_not_show_in_the_digest(shards: int, charge: str) -> None:
    outcome = on_ray(shards, charge=charge)
    assert outcome.shards == shards
    assert outcome.digest == reference(charge).digest
    assert outcome.handled == reference(charge).handled
    assert outcome.counters() == reference(charge).counters()


def test_peers_with_disks_find_again_what_was_durable() -> None:
    counters = with_disks().counters()
    assert counters["journal_records", ""] > 100
    assert counters["journal_records_recovered", ""] > 100
    assert counters["journal_torn", ""] > 0
    assert counters["disks_failed", "io"] > 0
    assert ("security_events", "bad_signature") not in counters
    assert not any(name.startswith(("journal", "disk")) for name, _ in reference("free").counters())


@pytest.mark.usefixtures("one_node")
def test_where_a_disk_is_does_not_show() -> None:
    alone, together = with_disks(), on_ray(2, **DISKS)
    assert together.digest == alone.digest
    assert together.counters() == alone.counters()


@pytest.mark.usefixtures("one_node")
def test_who_proves_what_to_whom_is_the_same_on_two_shards() -> None:
    alone, together = inline(charge="laptop", **PROOFS), on_ray(2, charge="laptop", **PROOFS)
    assert together.digest == alone.digest
    assert together.counters() == alone.counters()
    assert alone.counters()["proofs", "ok"] > 100
    assert alone.counters()["security_events", "replayed"] > 0


def test_charging_seed_and_every_option_show_in_the_digest() -> None:
    digests = [
        reference("free").digest,
        reference("laptop").digest,
        inline(seed=2).digest,
        inline(network__loss=0.02).digest,
    ]
    assert len(set(digests)) == 4


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_tracing_does_not_show_in_the_digest(sample: float) -> None:
    outcome = inline(telemetry__sample=sample)
    assert outcome.digest == reference("free").digest
    assert bool(outcome.spans) == bool(sample)


@pytest.mark.usefixtures("one_node")
def test_tracing_on_two_shards_keeps_the_spans_of_one() -> None:
    alone, together = inline(telemetry__sample=1.0), on_ray(2, telemetry__sample=1.0)
    assert together.digest == alone.digest
    assert len(together.spans) == len(alone.spans) > 100
    assert {row.span.span_id for row in together.spans} == {row.span.span_id for row in alone.spans}


@pytest.mark.usefixtures("one_node")
def test_events_of_two_shards_are_the_events_of_one() -> None:
    together = on_ray(2)
    assert sorted(map(repr, together.events)) == sorted(map(repr, reference("free").events))


def test_where_stretches_end_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.simulation.STRETCH_WALL_S", 0.0)  # ever shorter, down to a millisecond
    monkeypatch.setattr("cluster.simulation.STRETCH_MIN_NS", 50_000_000)
    stretches: list[Progress] = []
    outcome = simulate(small(), inline=True, watch=stretches.append)
    assert len(stretches) > 1_000
    assert outcome.digest == reference("free").digest


class Acknowledged:
    """An observer that holds peers to what they said: whoever was told that a record is stored, or published, is right
    about it whatever crashed since."""

    def __init__(self) -> None:
        self.checked = 0
        self._asked: dict[tuple[int, int], Record] = {}
        self._promised: dict[int, dict[bytes, int]] = {}

    def __call__(self, time: int, peer: int, service: str, source: int, sequence: int, message: Message) -> None:
        promised = self._promised.setdefault(peer, {})
        match message:
            case Incoming(call=call, kind="kad.store", body=body) if service == "dht":
                store = REQUESTS.decode(body)
                assert isinstance(store, Store)
                self._asked[peer, call] = store.record
            case Respond(call=call, body=body) if RESPONSES.decode(body) == Stored("stored"):
                record = self._asked.pop((peer, call))
                promised[record.key] = max(record.sequence, promised.get(record.key, 0))
            case PutDone(key=key):
                promised[key] = max(0, promised.get(key, 0))
            case Recovered(snapshot=None, records=records):
                found: dict[bytes, int] = {}
                for each in records:
                    record = Change(each.kind, each.payload).held().record
                    found[record.key] = max(record.sequence, found.get(record.key, 0))
                for key, least in promised.items():
                    assert found.get(key, -1) >= least
                    self.checked += 1
            case _:
                pass


def test_nothing_that_was_acknowledged_is_lost_whatever_crashes() -> None:
    scenario = small(charge="laptop", **DISKS)
    world = World(scenario)
    [host] = hosts(scenario, [0] * scenario.peers)
    Population(world, {}).schedule(host, range(scenario.peers))
    host.observer = acknowledged = Acknowledged()
    host.run(scenario.duration_ns)
    assert acknowledged.checked > 100


# -- the check itself ---------------------------------------------------------------------------------------

PROGRAM = """
from tests.cluster.runs import inline
import tests.cluster.leaks
for kind in ("put_get", "hash_leak"):
    print(inline(peers=20, duration_s=70, workload__kind=kind, plugins=["tests.cluster.leaks"]).digest)
"""


def test_a_planted_leak_of_the_wall_clock_is_caught() -> None:
    plugin = {"plugins": ["tests.cluster.leaks"], "peers": 20, "duration_s": 70}
    honest = [inline(**plugin).digest for _ in range(2)]
    leaking = [inline(**plugin, workload__kind="clock_leak").digest for _ in range(2)]
    assert honest[0] == honest[1]
    assert leaking[0] != leaking[1]


def test_a_planted_leak_of_hash_order_is_caught() -> None:
    honest, leaking = zip(*(python(PROGRAM, PYTHONHASHSEED=seed).split() for seed in ("1", "2")), strict=True)
    assert honest[0] == honest[1]
    assert leaking[0] != leaking[1]


# -- state --------------------------------------------------------------------------------------------------


def hosts(scenario: Scenario, homes: list[int]) -> list[Host]:
    """Hosts with real peers, as shards make them; each call makes everything anew."""
    world = World(scenario)
    made = []
    for number in range(max(homes) + 1):
        plan = WORKLOADS.find(scenario.workload.kind).make.plan(scenario, world)
        population = Population(world, plan)
        made.append(
            Host(
                population.build,
                seed=scenario.seed,
                network=Network(scenario, scenario.seed, world),
                disks=population.disks,
                costs=TABLES[scenario.charge],
                number=number,
                route=lambda peer, _: homes[peer] if 0 <= peer < len(homes) else -1,
            )
        )
    return made


@pytest.mark.parametrize(
    ("charge", "options"),
    [
        ("free", {"churn__model": "exponential", "churn__mean_session_s": 60}),
        ("laptop", {"churn__model": "exponential", "churn__mean_session_s": 60}),
        ("laptop", DISKS),
        ("laptop", PROOFS | {"churn__model": "exponential", "churn__mean_session_s": 60}),
    ],
)
def test_hosts_restored_at_every_window_lead_to_the_same_digest(charge: str, options: dict[str, Any]) -> None:
    scenario = small(peers=10, duration_s=75, charge=charge, **options)
    whole = simulate(scenario, inline=True)
    world = World(scenario)
    homes = world.assign(2)
    lookahead = world.lookahead(homes)
    population = Population(world, WORKLOADS.find(scenario.workload.kind).make.plan(scenario, world))
    pair = hosts(scenario, homes)
    for number, host in enumerate(pair):
        population.schedule(host, [peer for peer, home in enumerate(homes) if home == number])
    windows = 0
    while (earliest := min(host.next_time() for host in pair)) < scenario.duration_ns:
        until = min(earliest + lookahead, scenario.duration_ns)
        for host in pair:
            host.run(until)
        for number, host in enumerate(pair):
            pair[1 - number].accept(host.take_outbox(1 - number))
        states = [host.to_bytes() for host in pair]
        restored = hosts(scenario, homes)
        for host, state in zip(restored, states, strict=True):
            host.restore(state)
            assert host.to_bytes() == state
        pair = restored
        windows += 1
    assert windows > 100
    assert sum(host.handled for host in pair) == whole.handled
    assert overall_digest(pair[0].digests() | pair[1].digests()) == whole.digest


# -- what goes wrong ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_node")
def test_a_killed_shard_ends_the_run_and_is_named() -> None:
    shards = RayShards(small(shards=2, peers=60, duration_s=100_000))
    try:
        shards.prepare()
        processes = [place.process for place in shards._places]
        assert all(map(alive, processes))
        killer = threading.Timer(0.7, os.kill, (processes[1], signal.SIGKILL))
        killer.start()
        with took_at_most(8), pytest.raises(ShardLostError, match=rf"shard 1 \(process {processes[1]} on"):
            shards.advance(100_000 * 10**9)
        killer.join()
    finally:
        shards.close()
    assert eventually(lambda: not any(map(alive, processes)), timeout_s=5)


@pytest.mark.usefixtures("one_node")
def test_a_bug_in_an_actor_arrives_as_itself() -> None:
    plugin = {"plugins": ["tests.cluster.leaks"], "workload__kind": "bug"}
    with pytest.raises(HandlerError, match=r"Bug of peer \d+ .* seed 1: KeyError: 'planted'"):
        on_ray(2, **plugin)


@pytest.mark.usefixtures("one_node")
def test_more_shards_than_cores_are_refused() -> None:
    with pytest.raises(LocalError, match="16 shards need a core each; the cluster has 3"):
        on_ray(16)


def test_ctrl_c_leaves_what_there_is_and_no_process(tmp_path: Path) -> None:
    options = ("duration_s=100_000", "workload.puts=0", "workload.gets=0")
    settings = [each for option in options for each in ("--set", option)]
    left = interrupt("run", "demo", "--peers", "60", "--shards", "2", *settings, "--out", str(tmp_path))
    assert len(left.processes) > 5
    check_interrupted(left, tmp_path)
