"""The workload ``convergence``: who writes what and when, what it asks of replicas, and small worlds of it."""

from functools import cache
from typing import Any, Final

import pytest

from cluster.convergence import CHANGES_MAX, Cast, Convergence, channels, plan_writes, request
from cluster.operations import Operation
from cluster.options import ScenarioError
from cluster.planning import stays_up
from cluster.population import Population
from cluster.results import write
from cluster.scenario import Scenario, load
from cluster.shard import Shard
from cluster.simulation import Outcome, overall_digest, simulate
from cluster.world import World
from protocols.crdt.changes import Grant, Revoke, Role
from protocols.crdt.replica import Replica
from protocols.crdt.requests import Revise, Write
from tests.cluster.runs import nodes
from tests.cluster.test_exchange import in_parallel

S: Final = 1_000_000_000
OPTIONS: Final = {
    "writes": 40,
    "until_s": 30.0,
    "timeout_s": 20.0,
    "admins": 2,
    "readers": 3,
    "grants": 2,
    "revokes": 1,
}
TABLE: Final = {
    "name": "tiny",
    "seed": 5,
    "peers": 12,
    "duration_s": 75,
    "start": "warm",
    "bootstraps": 2,
    "network": {"loss": 0.05, "partitions": [{"from_s": 10, "until_s": 20, "regions": ["europe"]}]},
    "workload": {"kind": "convergence", "options": OPTIONS},
}


def tiny(**overrides: Any) -> Scenario:
    return Scenario.from_table(TABLE).with_overrides({key.replace("__", "."): each for key, each in overrides.items()})


@cache
def outcome() -> Outcome:
    return simulate(tiny(), inline=True)


# -- the plan ---------------------------------------------------------------------------------------------


def planned(scenario: Scenario) -> tuple[World, list[tuple[int, Operation]]]:
    world = World(scenario)
    return world, [(peer, each) for peer, operations in plan_writes(scenario, world).items() for each in operations]


def test_honest_peers_write_who_may_and_stay_up() -> None:
    scenario = load("crdt-convergence")
    world, plan = planned(scenario)
    cast = Cast(scenario, world)
    kinds = [each.kind for _, each in plan]
    assert (kinds.count("write"), kinds.count("grant"), kinds.count("revoke")) == (400, 4, 3)
    granted = {each.record: each.at for _, each in plan if each.kind == "grant"}
    revoked = {each.record: each.at for _, each in plan if each.kind == "revoke"}
    assert set(granted) <= set(cast.readers)
    assert set(revoked) == set(cast.revoked)
    for peer, each in plan:
        assert peer in world.honest
        assert stays_up(world.schedule(peer), each.at, each.deadline, 5 * S)
        if each.kind != "write":
            assert peer in cast.admins
            assert each.key == world.device(each.record)
            continue
        if peer in cast.readers:
            assert each.at >= granted[peer] + 60 * S
        if peer in revoked:
            assert each.at < revoked[peer] + 20 * S


def test_plan_follows_from_the_seed() -> None:
    assert planned(tiny())[1] == planned(tiny())[1] != planned(tiny(seed=6))[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"duration_s": 50}, "duration_s: leaves no time to converge"),
        ({"workload.options.until_s": 2.0}, "until_s: leaves no time to write"),
        ({"workload.options.readers": 11}, "too few"),
        ({"workload.options.grants": 4}, "4 of 3 readers"),
        ({"workload.options.admins": 0}, "there is none to grant"),
    ],
)
def test_plan_that_cannot_be_is_an_error_that_names_its_option(overrides: dict[str, Any], message: str) -> None:
    scenario = tiny().with_overrides(overrides)
    with pytest.raises(ScenarioError, match=message):
        plan_writes(scenario, World(scenario))


def test_what_is_written_follows_from_its_number_and_changes_all_there_is() -> None:
    operations = [Operation(number, "write", 0, 1, number, b"") for number in range(400)]
    asked = [request(7, each, bytes(32)) for each in operations]
    assert (
        asked
        == [request(7, each, bytes(32)) for each in operations]
        != [request(8, each, bytes(32)) for each in operations]
    )
    kinds = {type(change).__name__ for each in asked if isinstance(each, Write) for change in each.changes}
    assert kinds == {"Assign", "AssignMulti", "Increment", "Add", "Remove", "Append", "Clear"}
    assert max(len(each.changes) for each in asked if isinstance(each, Write)) == CHANGES_MAX
    assert any(isinstance(each, Revise) for each in asked)


def test_orders_are_grants_and_revocations() -> None:
    grant, revoke = (request(7, Operation(3, kind, 0, 1, 5, b"d" * 32), bytes(32)) for kind in ("grant", "revoke"))
    assert isinstance(grant, Write)
    assert isinstance(revoke, Write)
    assert (grant.changes, revoke.changes) == ((Grant(b"d" * 32, Role.MEMBER),), (Revoke(b"d" * 32),))


# -- the channel ------------------------------------------------------------------------------------------


def test_the_first_peer_founds_the_channel_with_everybody_in_it() -> None:
    scenario = tiny()
    world = World(scenario)
    [channel] = channels(scenario, world)
    assert [channel] == list(channels(scenario, World(scenario)))
    replica = Replica(channel.genesis)
    roles = [replica.judge.role(world.device(peer)) for peer in range(12)]
    assert roles == [Role.OWNER, *[Role.ADMIN] * 2, *[Role.MEMBER] * 6, *[Role.READER] * 3]
    assert [each.endpoint for each in channel.members] == list(range(12))


def test_every_honest_peer_has_the_channel_and_describes_its_replica() -> None:
    scenario = tiny()
    world = World(scenario)
    population = Population(world, plan_writes(scenario, world))
    for peer in range(12):
        setup, actors = population.build(peer, 1)
        assert len(setup.channels) == 1
        assert Convergence in actors
    assert Population(World(load("demo")), {}).build(3, 1)[0].channels == ()


# -- small worlds -----------------------------------------------------------------------------------------


def test_replicas_converge_through_a_cut_and_loss_and_the_run_says_so() -> None:
    figures = write(outcome(), None).summary["convergence"]
    assert figures["broken"] == []
    assert (figures["digests"], figures["sets"], figures["replicas"]) == (1, 1, 11)
    assert figures["writes"]["outcomes"] == {"ok": 40}
    assert figures["operations"] > 40


def test_restored_workload_asks_and_describes_as_the_saved_one_would() -> None:
    scenario = tiny()
    world = World(scenario)
    setup, _ = Population(world, plan_writes(scenario, world)).build(1, 1)
    actor = Convergence(setup)
    again = Convergence.from_bytes(actor.to_bytes(), setup)
    assert again.to_bytes() == actor.to_bytes()
    assert (again._channel, again._end_ns) == (actor._channel, actor._end_ns)


def test_replicas_with_disks_that_crash_converge_too() -> None:
    scenario = tiny(
        disk__kind="simulated",
        churn__model="exponential",
        churn__mean_session_s=60,
        churn__mean_downtime_s=5,
        workload__options={**OPTIONS, "timeout_s": 5.0, "revokes": 0},
        duration_s=150,
    )
    run = write(simulate(scenario, inline=True), None)
    figures = run.summary["convergence"]
    assert figures["broken"] == []
    assert figures["digests"] == 1
    assert run.summary["counters"]["crdt_operations_recovered"] > 0


def test_two_shards_are_one() -> None:
    shards = [Shard(tiny().to_toml(), number, 2) for number in range(2)]
    addresses = [shard.listen(["127.0.0.1"] * len(shards), bytes(32)) for shard in shards]
    try:
        in_parallel([lambda shard=shard: shard.prepare(addresses) for shard in shards])  # type: ignore[misc]
        for until in (20 * S, 75 * S):
            in_parallel([lambda shard=shard, until=until: shard.advance(until) for shard in shards])  # type: ignore[misc]
        digests = shards[0].digests() | shards[1].digests()
    finally:
        for shard in shards:
            shard.close()
    assert overall_digest(digests) == outcome().digest


@pytest.mark.campaign
@pytest.mark.timeout(1_800)
def test_the_shipped_scenario_keeps_its_promises_with_one_digest_wherever_it_runs() -> None:
    scenario = load("crdt-convergence")
    alone = simulate(scenario, inline=True)
    assert write(alone, None).summary["broken"] == []
    with nodes(1):
        for shards in (1, 2):
            assert simulate(scenario.with_overrides({"shards": shards})).digest == alone.digest
