"""A run that takes a third of a second, for whoever needs results to look at."""

from functools import cache
from typing import Any

from cluster.scenario import Scenario
from cluster.simulation import Outcome, simulate

TABLE: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "peers": 12,
    "duration_s": 60,
    "join_window_s": 5,
    "bootstraps": 2,
    "network": {"loss": 0.01},
    "workload": {"puts": 3, "gets": 8, "min_uptime_s": 5, "put_timeout_s": 10, "get_timeout_s": 10},
    "telemetry": {"sample": 1.0},
}
OPTIONS = ("duration_s=60", "join_window_s=5", "bootstraps=2", "workload.puts=3", "workload.gets=8")


def tiny(**overrides: Any) -> Scenario:
    """The scenario with other values; ``__`` stands for the dot of a path."""
    scenario = Scenario.from_table(TABLE)
    return scenario.with_overrides({key.replace("__", "."): value for key, value in overrides.items()})


@cache
def tiny_outcome(**overrides: Any) -> Outcome:
    """Its outcome, computed once. Nobody may change it."""
    return simulate(tiny(**overrides), inline=True)


def interrupted_outcome() -> Outcome:
    """What is left when somebody presses Ctrl-C during the run."""

    def watch(_: object) -> None:
        raise KeyboardInterrupt

    return simulate(tiny(), inline=True, watch=watch)
