"""The wire: packets take their time, or are lost, doubled, held back or cut off, as the link alone decides."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.network import Network
from cluster.options import ScenarioError
from cluster.regions import REGION_NAMES, world_regions
from cluster.scenario import Scenario
from cluster.world import World

MS = 1_000_000
S = 1_000_000_000
CLEAN = {"loss": 0, "duplicate": 0, "reorder": 0}


def network(seed: int = 1, **options: Any) -> tuple[Network, World]:
    table = {"name": "x", "peers": 60, "duration_s": 600, "seed": seed, "network": CLEAN | options}
    scenario = Scenario.from_table(table)
    world = World(scenario)
    return Network(scenario, scenario.seed, world), world


def transits(wire: Network, count: int = 20_000, source: int = 3, destination: int = 4) -> list[tuple[int, ...]]:
    return [wire.transit(source, destination, 100, i * MS, 0) for i in range(count)]


def test_the_figures_of_the_interoperability_tests_are_kept() -> None:
    geography = world_regions(network()[0]._world.scenario)
    latency = {
        (one, other): geography.one_way_ns[i][j] // MS
        for i, one in enumerate(REGION_NAMES)
        for j, other in enumerate(REGION_NAMES)
    }
    assert latency["europe", "europe"] == 2
    assert latency["europe", "na_east"] == 70
    assert latency["europe", "east_asia"] == 125
    assert latency["australia", "south_africa"] == 220
    assert all(latency[one, other] == latency[other, one] for one, other in latency)


@given(st.integers(0, 59), st.integers(0, 59), st.integers(0, 600 * S), st.integers(0, 9))
def test_no_packet_is_faster_than_the_floor(source: int, destination: int, sent_at: int, ordinal: int) -> None:
    wire, world = NOISY
    least = (
        wire.floor(world.regions[source], world.regions[destination])
        + world.access_delay(source)
        + world.access_delay(destination)
    )
    for arrival in wire.transit(source, destination, 100, sent_at, ordinal):
        assert arrival >= sent_at + least


NOISY = network(loss=0.1, duplicate=0.3, reorder=0.3)


def test_fate_depends_on_link_time_and_number_alone() -> None:
    first, second = network(loss=0.3)[0], network(loss=0.3)[0]
    forward = transits(first, 500)
    backward = [second.transit(3, 4, 100, i * MS, 0) for i in reversed(range(500))]
    assert forward == backward[::-1]
    assert forward != transits(network(seed=2, loss=0.3)[0], 500)
    assert forward != transits(first, 500, 4, 3)
    assert len({first.transit(3, 4, 100, 5, ordinal) for ordinal in range(20)}) > 10


def test_packets_are_lost_as_often_as_asked_and_counted() -> None:
    wire, _ = network(loss=0.01)
    lost = transits(wire).count(())
    assert lost == wire.drops["lost"]
    assert lost / 20_000 == pytest.approx(0.01, abs=0.003)


@pytest.mark.parametrize(("loss", "arrived"), [(0, 2_000), (1, 0)])
def test_certain_loss_and_none_are_exact(loss: float, arrived: int) -> None:
    assert sum(map(len, transits(network(loss=loss)[0], 2_000))) == arrived


def test_packets_are_doubled_as_often_as_asked() -> None:
    arrivals = transits(network(duplicate=0.05)[0])
    assert sum(len(each) == 2 for each in arrivals) / 20_000 == pytest.approx(0.05, abs=0.006)
    assert all(each[0] < each[1] for each in arrivals if len(each) == 2)


def test_packets_held_back_are_overtaken_by_at_most_the_delay() -> None:
    still, held = network(jitter_median_s=0)[0], network(jitter_median_s=0, reorder=0.2)[0]
    late = [after[0] - before[0] for before, after in zip(transits(still), transits(held), strict=True)]
    assert sum(each > 0 for each in late) / 20_000 == pytest.approx(0.2, abs=0.01)
    assert max(late) <= 50 * MS + 1


def test_jitter_only_adds_and_has_its_median() -> None:
    still, shaken = network(jitter_median_s=0)[0], network(jitter_median_s=0.004)[0]
    added = sorted(b[0] - a[0] for a, b in zip(transits(still), transits(shaken), strict=True))
    assert added[0] > 0
    assert added[10_000] == pytest.approx(4 * MS, rel=0.03)


def test_endpoint_that_nobody_has_is_no_crash() -> None:
    wire, _ = network()
    assert wire.transit(0, 60, 100, 0, 0) == ()
    assert wire.transit(0, 2**63 - 1, 100, 0, 0) == ()
    assert wire.drops["unreachable"] == 2


def inhabitants(world: World, *regions: str) -> list[int]:
    return [next(peer for peer in range(60) if world.region(peer) == region) for region in regions]


def test_partition_cuts_both_ways_for_its_time_and_no_other() -> None:
    cut = {"from_s": 10, "until_s": 20, "regions": ["europe"]}
    wire, world = network(partitions=[cut])
    here, there, beyond = inhabitants(world, "europe", "na_east", "na_west")
    for sent_at, arrives in ((10 * S - 1, True), (10 * S, False), (20 * S - 1, False), (20 * S, True)):
        assert bool(wire.transit(here, there, 100, sent_at, 0)) is arrives
        assert bool(wire.transit(there, here, 100, sent_at, 0)) is arrives
        assert wire.transit(there, beyond, 100, sent_at, 0)
        assert wire.transit(here, here, 100, sent_at, 0)
    assert wire.drops["partitioned"] == 4


def test_one_way_partition_stops_what_leaves() -> None:
    cut = {"from_s": 10, "until_s": 20, "regions": ["europe"], "one_way": True}
    wire, world = network(partitions=[cut])
    here, there = inhabitants(world, "europe", "na_east")
    assert not wire.transit(here, there, 100, 15 * S, 0)
    assert wire.transit(there, here, 100, 15 * S, 0)


def test_groups_are_cut_from_each_other_and_the_rest_reaches_all() -> None:
    cut = {"from_s": 10, "until_s": 20, "groups": [["europe"], ["na_east"]]}
    wire, world = network(partitions=[cut])
    here, there, beyond = inhabitants(world, "europe", "na_east", "na_west")
    assert not wire.transit(here, there, 100, 15 * S, 0)
    assert wire.transit(here, beyond, 100, 15 * S, 0)
    assert wire.transit(beyond, there, 100, 15 * S, 0)


def test_lookahead_is_the_least_that_any_packet_between_shards_takes() -> None:
    wire, world = network(jitter_median_s=0)
    assignment = world.assign(2)
    fastest = min(
        wire.transit(source, destination, 100, 0, 0)[0]
        for source in range(60)
        for destination in range(60)
        if assignment[source] != assignment[destination]
    )
    assert wire.lookahead(assignment) == fastest > 0


def test_no_latency_between_shards_is_an_error() -> None:
    wire, _ = network(model="constant", latency_s=1e-10, access_median_s=0, access_floor_s=0)
    with pytest.raises(ScenarioError, match="without any latency"):
        wire.lookahead([peer % 2 for peer in range(60)])
