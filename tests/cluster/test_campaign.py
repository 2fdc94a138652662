"""The campaign: ``demo`` with 300 peers, uncut, has one digest wherever it runs."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import ray

from cluster.ray_shards import start_ray
from cluster.scenario import Scenario, load
from cluster.simulation import Outcome, simulate
from tests.cluster.runs import nodes

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1_800)]


def demo(**overrides: Any) -> Scenario:
    return load("demo").with_overrides({"peers": 300, **overrides})


@cache
def reference(charge: str) -> Outcome:
    return simulate(demo(charge=charge), inline=True)


@pytest.fixture
def one_node() -> Iterator[None]:
    start_ray(None, 3)
    yield
    ray.shutdown()


@pytest.fixture
def two_nodes() -> Iterator[None]:
    with nodes(2):
        yield


def compare(scenario: Scenario) -> None:
    outcome = simulate(scenario)
    assert outcome.digest == reference(scenario.charge).digest
    assert outcome.counters() == reference(scenario.charge).counters()


@pytest.mark.parametrize("charge", ["free", "laptop"])
def test_demo_repeats_itself(charge: str) -> None:
    assert simulate(demo(charge=charge, **{"telemetry.sample": 1.0}), inline=True).digest == reference(charge).digest


def test_charging_and_seed_show_in_the_digest_of_demo() -> None:
    other = simulate(demo(seed=2), inline=True)
    assert len({reference("free").digest, reference("laptop").digest, other.digest}) == 3


@pytest.mark.parametrize("charge", ["free", "laptop"])
@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.usefixtures("one_node")
def test_shards_do_not_show_in_the_digest_of_demo(shards: int, charge: str) -> None:
    compare(demo(shards=shards, charge=charge))


@pytest.mark.parametrize("charge", ["free", "laptop"])
@pytest.mark.usefixtures("two_nodes")
def test_two_nodes_do_not_show_in_the_digest_of_demo(charge: str) -> None:
    compare(demo(shards=2, charge=charge))


@pytest.mark.usefixtures("one_node")
def test_disks_have_one_digest_wherever_they_are_and_make_up_for_crashes() -> None:
    scenario = load("crashes")
    alone, together = simulate(scenario, inline=True), simulate(scenario.with_overrides({"shards": 2}))
    assert together.digest == alone.digest
    assert together.counters() == alone.counters()
    assert alone.counters()["journal_torn", ""] > 0
    table = scenario.to_table()
    del table["disk"]
    forgetful = simulate(Scenario.from_table(table), inline=True)
    assert alone.counters()["gets", "ok"] > 1.1 * forgetful.counters()["gets", "ok"]
