"""Real time: the same peers by the machine's clock, in one process or in a Ray actor for each subsystem."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.host import HandlerError, Host
from cluster.exchange import ShardLostError
from cluster.options import ScenarioError
from cluster.ray_real_time import RayRealTime
from cluster.ray_shards import start_ray
from cluster.real_time import CREDITS, SERVICES, Layout, RealTimeShard, _drive, simulate_real
from cluster.scenario import Scenario, load
from cluster.simulation import Outcome, Progress
from protocols.messages import encode
from tests.cluster.runs import alive, check_interrupted, eventually, interrupt

PEERS = 3


def inside(**overrides: Any) -> Scenario:
    """``inside`` in five seconds; dots in a key are written as two underscores."""
    values = {
        "peers": PEERS,
        "duration_s": 5,
        "join_window_s": 0.3,
        "workload.puts": 3,
        "workload.gets": 6,
        "workload.min_uptime_s": 0.3,
        "workload.put_until_s": 0.9,
        "workload.put_timeout_s": 1.5,
        "workload.get_timeout_s": 1.5,
    }
    values.update({key.replace("__", "."): each for key, each in overrides.items()})
    return load("inside").with_overrides(values)


@pytest.fixture(scope="module")
def one_node() -> Iterator[None]:
    start_ray(None, PEERS * len(SERVICES))
    yield
    ray.shutdown()


@cache
def reference() -> Outcome:
    return simulate_real(inside(placement="packed"), inline=True)


def answers(outcome: Outcome) -> dict[Any, Any]:
    """What came of every put and get: with one host for all, or one for each actor, the same.

    Whether an asker was among those who store a record is not: by the clock of a busy machine, one of the stores may
    have been given up. Found is found.
    """
    found: dict[Any, Any] = {"local": "ok"}
    rows = (row.fields for row in outcome.events if row.name in ("put", "get"))
    return {row["number"]: found.get(row["outcome"], row["outcome"]) for row in rows}


# -- a run in this process ----------------------------------------------------------------------------------


def test_peers_put_and_get_by_the_clock() -> None:
    outcome = reference()
    assert len(answers(outcome)) == 9
    assert set(answers(outcome).values()) == {"ok"}
    assert 5.0 <= outcome.wall_s < 6.0
    assert outcome.now == 5 * 10**9
    assert outcome.counters()["peers_started", ""] == PEERS
    assert outcome.spans
    assert all(0 <= row.span.start <= row.end <= outcome.now for row in outcome.spans)


def check_quarantine(outcome: Outcome) -> None:
    """Every peer with the faulty actor is down, and says why; the host went on with the others to the end."""
    rows = [row for row in outcome.events if row.name == "quarantined"]
    assert rows
    assert len({row.peer for row in rows}) == len(rows) == outcome.counters()["peers_quarantined", ""]
    assert all("Bug of peer" in str(row.fields["detail"]) and "planted" in str(row.fields["detail"]) for row in rows)
    assert outcome.now == outcome.scenario.duration_ns


def test_a_bug_quarantines_its_peer_and_the_run_goes_on() -> None:
    scenario = inside(placement="packed", plugins=["tests.cluster.leaks"], workload__kind="bug")
    check_quarantine(simulate_real(scenario, inline=True))


def test_a_placement_that_needs_ray_is_refused_inline() -> None:
    with pytest.raises(ScenarioError, match="placement: 'subsystem' needs Ray"):
        simulate_real(inside(), inline=True)


# -- between hosts ------------------------------------------------------------------------------------------


def shard(number: int = 0, hosts: int = 2) -> RealTimeShard:
    return RealTimeShard(inside(placement="packed").to_toml(), number, hosts)


def test_batches_out_of_order_are_put_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(Host, "accept", lambda host, batch: seen.append(batch))
    receiver = shard()
    for sequence in (2, 0, 1, 4, 3):
        receiver.accept(1, sequence, b"%d" % sequence)
    receiver.accept(7, 0, b"from another sender")
    receiver.accept(1, 5, b"5")
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"from another sender", b"5"]


def test_a_slow_destination_gets_so_many_batches_and_the_rest_at_once_later() -> None:
    parcel = (1, 1, 0, 1, 0, bytes(25), 0, b"x")

    async def story() -> None:
        sender = shard()
        gate = asyncio.Event()
        delivered: list[tuple[int, int, bytes]] = []

        async def deliver(destination: int, sequence: int, batch: bytes) -> None:
            delivered.append((destination, sequence, batch))
            await gate.wait()

        for _ in range(CREDITS + 5):
            sender._host.outboxes.setdefault(1, []).append(parcel)
            sender._flush(deliver)
            await asyncio.sleep(0)
        assert [sequence for _, sequence, _ in delivered] == list(range(CREDITS))
        gate.set()
        await asyncio.sleep(0.01)
        sender._flush(deliver)
        await asyncio.sleep(0)
        assert delivered[CREDITS:] == [(1, CREDITS, encode([parcel] * 5))]
        assert len(delivered) == CREDITS + 1

    asyncio.run(story())


def test_a_bug_met_while_a_batch_is_taken_stops_the_host_and_not_the_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: Host, batch: bytes) -> None:
        raise HandlerError("planted")

    monkeypatch.setattr(Host, "accept", fail)

    async def story() -> None:
        receiver = shard()

        async def nowhere(destination: int, sequence: int, batch: bytes) -> None:
            pass

        run = asyncio.ensure_future(receiver.drive(nowhere, time.time_ns()))
        await asyncio.sleep(0.05)
        receiver.accept(1, 0, b"x")
        with pytest.raises(HandlerError, match="planted"):
            await run

    asyncio.run(story())


def test_a_message_for_a_peer_that_is_not_up_here_yet_waits_for_it() -> None:
    scenario = inside()
    layout = Layout(scenario, 0)
    numbers = [layout.home(1, service) for service in ("dht", "rpc", "sessions", "limiter", "workload")]
    hosts = {number: RealTimeShard(scenario.to_toml(), number, 0)._host for number in numbers}
    waited = 0
    for host in hosts.values():
        host.run(scenario.settled_ns + 1)
        for other, neighbour in hosts.items():
            neighbour.accept(host.take_outbox(other))
        waited += sum(len(each.early) for each in hosts.values())
        assert not host.early
    assert waited > 0
    assert all(("messages_dropped", "peer_down") not in host.counters for host in hosts.values())


# -- on Ray -------------------------------------------------------------------------------------------------


def drive(scenario: Scenario) -> tuple[Outcome, list[int], list[Progress]]:
    """An outcome, and the processes that the hosts were."""
    shards = RayRealTime(scenario)
    outcome = Outcome(scenario, shards.hosts)
    seen: list[Progress] = []
    try:
        asyncio.run(_drive(shards, outcome, time.perf_counter(), seen.append))
    finally:
        shards.close()
    return outcome, shards._processes, seen


@pytest.mark.parametrize(("placement", "each"), [("peer", 1), ("subsystem", len(SERVICES))])
@pytest.mark.usefixtures("one_node")
def test_every_peer_or_every_subsystem_is_a_ray_actor_and_the_outcomes_are_the_same(placement: str, each: int) -> None:
    outcome, processes, seen = drive(inside(placement=placement))
    assert outcome.shards == len(set(processes)) == PEERS * each
    assert answers(outcome) == answers(reference())
    assert outcome.counters()["peers_started", ""] == PEERS
    assert ("messages_dropped", "peer_down") not in outcome.counters()
    assert {progress.up for progress in seen[2:-1]} == {PEERS}
    assert all(0 <= row.span.start <= row.end <= outcome.now for row in outcome.spans)
    assert eventually(lambda: not any(map(alive, processes)), timeout_s=5)


@pytest.mark.usefixtures("one_node")
def test_a_killed_actor_ends_the_run_and_is_named() -> None:
    shards = RayRealTime(inside(peers=2, duration_s=60, placement="subsystem"))
    outcome = Outcome(inside(), shards.hosts)

    def kill(progress: Progress) -> None:
        if progress.now > 5 * 10**8:
            os.kill(shards._processes[len(SERVICES) + SERVICES.index("sessions")], signal.SIGKILL)

    started = time.perf_counter()
    try:
        with pytest.raises(ShardLostError, match=r"the sessions of peer 1 \(process \d+\) died"):
            asyncio.run(_drive(shards, outcome, started, kill))
    finally:
        shards.close()
    assert time.perf_counter() - started - outcome.ready_s < 5
    assert eventually(lambda: not any(map(alive, shards._processes)), timeout_s=5)


@pytest.mark.usefixtures("one_node")
def test_a_bug_in_a_ray_actor_quarantines_its_peer_too() -> None:
    scenario = inside(placement="packed", shards=2, plugins=["tests.cluster.leaks"], workload__kind="bug")
    check_quarantine(drive(scenario)[0])


def test_ctrl_c_ends_a_run_by_the_clock_and_leaves_no_process(tmp_path: Path) -> None:
    options = ("--peers", "2", "--set", "duration_s=600", "--placement", "peer")
    left = interrupt("run", "inside", *options, "--out", str(tmp_path))
    assert len(left.processes) > 3
    check_interrupted(left, tmp_path)
