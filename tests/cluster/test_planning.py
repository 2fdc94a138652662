"""The plan of put_get: everybody who is asked to do something can, and nobody is asked for what it holds."""

from typing import Any

import pytest

from cluster.churn import up_since
from cluster.operations import Operation, Plan
from cluster.options import ScenarioError
from cluster.planning import plan_nothing, plan_puts_and_gets
from cluster.scenario import Scenario, load
from cluster.world import World
from protocols.contact import ID_BITS

S = 1_000_000_000


def planned(name: str = "demo", **overrides: Any) -> tuple[Scenario, World, Plan]:
    scenario = load(name).with_overrides({key.replace("__", "."): value for key, value in overrides.items()})
    world = World(scenario)
    return scenario, world, plan_puts_and_gets(scenario, world)


def flat(plan: Plan, kind: str) -> list[tuple[int, Operation]]:
    return [(peer, each) for peer, operations in plan.items() for each in operations if each.kind == kind]


SCENARIO, WORLD, PLAN = planned()
PUTS = {each.record: (peer, each) for peer, each in flat(PLAN, "put")}


def test_all_that_the_scenario_asks_for_is_planned_in_its_windows() -> None:
    puts, gets = flat(PLAN, "put"), flat(PLAN, "get")
    assert (len(puts), len(gets)) == (200, 1_000)
    for operations, (start, end) in ((puts, SCENARIO.put_window_ns), (gets, SCENARIO.get_window_ns)):
        assert all(start <= each.at < end for _, each in operations)
        assert all(each.deadline == each.at + 30 * S for _, each in operations)


def test_numbers_are_unique_and_each_peer_goes_in_order_of_time() -> None:
    numbers = [each.number for operations in PLAN.values() for each in operations]
    assert sorted(numbers) == list(range(1_200))
    for operations in PLAN.values():
        assert [each.at for each in operations] == sorted(each.at for each in operations)


def test_publishers_stay_until_their_put_had_its_time() -> None:
    for peer, put in PUTS.values():
        since = up_since(WORLD.schedule(peer), put.at)
        assert since is not None
        assert since <= put.at - 30 * S
        assert up_since(WORLD.schedule(peer), put.deadline) == since


def test_askers_are_up_far_from_the_key_and_not_the_publisher() -> None:
    for peer, get in flat(PLAN, "get"):
        publisher, put = PUTS[get.record]
        assert peer != publisher
        assert get.key == put.key
        assert put.deadline <= get.at
        since = up_since(WORLD.schedule(peer), get.at)
        assert since is not None
        assert since <= get.at - 30 * S


def test_askers_rank_behind_all_who_could_hold_the_record() -> None:
    ids = [WORLD.node_id(peer) for peer in WORLD.honest]
    for peer, get in flat(PLAN, "get")[:100]:
        key = int.from_bytes(get.key, "big")
        own = WORLD.node_id(peer) ^ key
        assert own >> (ID_BITS - 1) == 1
        assert sum(each ^ key < own for each in ids) >= 200  # of 500; k is 20


def test_plan_follows_from_the_seed() -> None:
    assert planned()[2] == PLAN
    assert planned(seed=2)[2] != PLAN


def test_sampling_changes_no_plan() -> None:
    assert planned(telemetry__sample=0)[2] == planned(telemetry__sample=1)[2] == PLAN


def test_gets_per_peer_are_one_per_period_of_a_peer_that_is_up() -> None:
    scenario, _, plan = planned("big", peers=1_000)
    start, end = scenario.get_window_ns
    gets = flat(plan, "get")
    expected = 0.9 * 1_000 * (end - start) / (300 * S)
    assert len(gets) == pytest.approx(expected, rel=0.1)
    for peer in range(1_000):
        times = [each.at for each in plan.get(peer, ()) if each.kind == "get"]
        assert all(sum(begin <= at < begin + 300 * S for at in times) <= 1 for begin in range(start, end, 300 * S))


def test_four_peers_find_something_to_do() -> None:
    _, _, plan = planned("inside")
    assert (len(flat(plan, "put")), len(flat(plan, "get"))) == (4, 8)


def test_record_that_nobody_else_could_ask_for_is_an_error() -> None:
    with pytest.raises(ScenarioError, match=r"workload\.gets: hardly any peer is up"):
        planned("inside", peers=1)


def test_world_that_is_never_up_long_enough_is_an_error() -> None:
    overrides: dict[str, Any] = {
        "churn__model": "exponential",
        "churn__mean_session_s": 2,
        "churn__mean_downtime_s": 5_000,
        "bootstraps": 1,
        "workload__min_uptime_s": 150,
        "peers": 3_000,
    }
    with pytest.raises(ScenarioError, match=r"workload\.puts: hardly any peer stays up"):
        planned(**overrides)


def test_adversaries_are_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.registry import Registry

    liars: Registry[Any] = Registry("adversary")
    liars.register("silent")(object)
    monkeypatch.setattr("cluster.scenario.ADVERSARIES", liars)
    _, world, plan = planned(adversaries=[{"kind": "silent", "count": 300}])
    assert len(world.honest) == 200
    assert all(peer < 200 for peer in plan)


def test_workload_none_plans_nothing() -> None:
    assert plan_nothing(SCENARIO, WORLD) == {}
