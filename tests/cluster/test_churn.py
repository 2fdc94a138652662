"""Churn: schedules have the measured laws from the first second on."""

from typing import Any

import pytest

from cluster.churn import LIFETIME_MIN_NS, PRESETS, Churn, Uptime, up_since
from cluster.scenario import Scenario

S = 1_000_000_000


def scenario(peers: int = 10, duration_s: float = 3_600, start: str = "warm", **churn: Any) -> Scenario:
    table = {"name": "x", "peers": peers, "duration_s": duration_s, "start": start, "churn": churn}
    return Scenario.from_table(table)


def schedules(given: Scenario) -> list[tuple[Uptime, ...]]:
    churn = Churn(given)
    return [churn.schedule(peer) for peer in range(given.bootstraps, given.peers)]


def up_share(all_of_them: list[tuple[Uptime, ...]], time: int) -> float:
    return sum(up_since(each, time) is not None for each in all_of_them) / len(all_of_them)


def test_bootstraps_are_always_up() -> None:
    churn = Churn(scenario(model="kad", mean_downtime_s=100_000))
    assert [churn.schedule(peer) for peer in range(5)] == [((0, None),)] * 5


def test_schedule_depends_on_seed_and_peer_alone() -> None:
    few, many = scenario(10, model="kad"), scenario(500, model="kad")
    assert Churn(few).schedule(7) == Churn(many).schedule(7)
    assert len({Churn(many).schedule(peer) for peer in range(5, 500)}) > 100
    assert schedules(many) != schedules(many.with_overrides({"seed": 2}))


def test_without_churn_everybody_stays() -> None:
    assert set(schedules(scenario())) == {((0, None),)}


def test_cold_start_spreads_arrivals_evenly_over_the_join_window() -> None:
    arrivals = [each[0][0] for each in schedules(scenario(3_000, 600, "cold"))]
    assert all(0 <= at < 60 * S for at in arrivals)
    for quarter in range(4):
        share = sum(quarter * 15 * S <= at < (quarter + 1) * 15 * S for at in arrivals) / len(arrivals)
        assert share == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("model", sorted(PRESETS))
def test_uptimes_are_in_order_apart_and_at_least_a_second(model: str) -> None:
    for uptimes in schedules(scenario(200, 20_000, model=model)):
        clock = -LIFETIME_MIN_NS
        for up_at, down_at in uptimes:
            assert up_at >= clock + (LIFETIME_MIN_NS if clock >= 0 else 0)
            assert down_at is None or up_at + LIFETIME_MIN_NS <= down_at < 20_000 * S
            clock = down_at if down_at is not None else 2**63
        assert all(down_at is not None for _, down_at in uptimes[:-1])


@pytest.mark.parametrize("model", ["kad", "bittorrent-flatout", "p2psim"])
def test_availability_holds_from_the_first_second_to_the_last(model: str) -> None:
    everyone = schedules(scenario(2_000, 7_200, model=model))
    for time_s in (0, 60, 1_800, 7_199):
        assert up_share(everyone, time_s * S) == pytest.approx(0.9, abs=0.025)


@pytest.mark.parametrize("model", ["kad", "p2psim"])
def test_departures_are_as_frequent_at_once_as_later(model: str) -> None:
    # In steady state a peer departs once per mean session and downtime, on average and at any time.
    everyone = schedules(scenario(5_000, 7_200, model=model))
    cycle_s = PRESETS[model].mean_s * 10 / 9
    for hour in (0, 1):
        departures = sum(
            down_at is not None and hour * 3_600 * S <= down_at < (hour + 1) * 3_600 * S
            for uptimes in everyone
            for _, down_at in uptimes
        )
        assert departures / len(everyone) == pytest.approx(3_600 / cycle_s, rel=0.07)


def test_fresh_sessions_have_the_mean_of_their_law() -> None:
    everyone = schedules(scenario(1_500, 100_000, model="exponential", mean_session_s=500, mean_downtime_s=500))
    # All sessions but the first (residual) that begin early enough to end within the run nearly surely.
    lengths = [
        (100_000 * S if down_at is None else down_at) - up_at
        for uptimes in everyone
        for up_at, down_at in uptimes[1:]
        if up_at < 90_000 * S
    ]
    assert sum(lengths) / len(lengths) == pytest.approx(500 * S, rel=0.02)
    assert up_share(everyone, 50_000 * S) == pytest.approx(0.5, abs=0.04)


def test_up_since_knows_the_edges() -> None:
    schedule: tuple[Uptime, ...] = ((5, 10), (20, None))
    assert [up_since(schedule, time) for time in (4, 5, 9, 10, 19, 20, 99)] == [None, 5, 5, None, None, 20, 20]
