"""SpacePanda's simulator. In a notebook, or a script:

from cluster import load, run

scenario = load("demo").with_overrides({"peers": 100, "network.loss": 0.05})
result = run(scenario, inline=True)
result.summary["lookups"]["success_ratio"]
result.operations().group_by("outcome").len()      # a polars data frame; so are events(), metrics(), spans()
result.folder                                      # runs/2026-11-24T1503-demo-1, which open_run() reads again
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.results import Run
    from cluster.scenario import Scenario
    from cluster.simulation import Outcome, Progress

# Imports wait for the calls: the command line is in this package too, and its ``--help`` needs none of them.


def load(file_or_name: str | Path) -> "Scenario":
    """A shipped scenario by its name, or any from its file."""
    from cluster import scenario  # noqa: PLC0415

    return scenario.load(file_or_name)


def run(
    scenario: "Scenario | str | Path",
    *,
    inline: bool = False,
    address: str | None = None,
    out: Path | str | None = "runs",
    watch: "Callable[[Progress], None] | None" = None,
) -> "Run":
    """Run a scenario, write its folder, and return what came out.

    Args:
        scenario: one that ``load`` or ``Scenario.from_table`` made, or what ``load`` takes.
        inline: in this process, without Ray.
        address: the Ray cluster to join, ``auto`` or ``HOST:PORT``; by default a local one is started.
        out: the folder in which the run's folder is made; None keeps the run in memory only.
        watch: called about twice a second with how far the run is.

    Raises:
        ScenarioError: there is no such scenario, or it is not valid.
        LocalError: the cluster cannot run this, or the folder cannot be written.
        ShardLostError: a shard died.
        HandlerError: an actor failed by a bug.
    """
    from cluster import results  # noqa: PLC0415

    if isinstance(scenario, str | Path):
        scenario = load(scenario)
    folder = None if out is None else results.create(scenario, out)
    return results.write(simulate(scenario, inline=inline, address=address, watch=watch), folder)


def simulate(
    scenario: "Scenario",
    *,
    inline: bool = False,
    address: str | None = None,
    watch: "Callable[[Progress], None] | None" = None,
) -> "Outcome":
    """Run a scenario on the clock that it names; ``run`` without a folder and tables."""
    if scenario.time == "real":
        from cluster.real_time import simulate_real as drive  # noqa: PLC0415
    else:
        from cluster.simulation import simulate as drive  # noqa: PLC0415
    return drive(scenario, inline=inline, address=address, watch=watch)


def open_run(folder: Path | str) -> "Run":
    """A run that is on disk.

    Raises:
        LocalError: the folder holds no complete run.
    """
    from cluster import results  # noqa: PLC0415

    return results.load(folder)
