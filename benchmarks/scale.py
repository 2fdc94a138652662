"""How runs grow: the shipped scenarios on Ray, and hops of a lookup with the size of the network.

``demo`` is run on one shard and on two; ``total_s`` is everything between the command and the result, Ray's start
included, and ``ratio`` the time of two shards over that of one: 0.5 would be perfect. ``big`` is 10,000 peers for ten
virtual minutes; its ``ratio`` is virtual over wall time: above 1, it is faster than the world it shows. The
time shares say where the shards' time goes; memory is PSS, Ray included.

Hops are counted to the first holder of the record, in networks whose tables are full and whose packets all arrive,
by peers in the other half of the identifier space. Beside them stands what the theory in ``cluster.theory`` expects
of such a network; their ``ratio`` is measured over expected, and 1 is right. ``hops_per_doubling`` is what a network
twice as large costs, by the next smaller one: a constant, if hops grow as log N.
"""

import time
from collections.abc import Iterator
from functools import partial
from math import log2
from typing import Any, Final

from benchmarks.rows import OURS, Row, interleaved, main, rounded, row
from cluster.scenario import Scenario, load
from cluster.simulation import Outcome, simulate
from cluster.summary import operations, summarise

DEMO_ROUNDS: Final = 3
HOPS: Final = {
    "duration_s": 160,
    "start": "warm",
    "network": {"loss": 0.0, "duplicate": 0.0, "reorder": 0.0},
    "workload": {"puts": 100, "gets": 400, "put_from_s": 10, "put_until_s": 40, "get_from_s": 75, "min_uptime_s": 1},
    "telemetry": {"sample": 0.0},
}


def run(quick: bool) -> Iterator[Row]:
    """The large run first, while this process is small: its memory counts."""
    yield _big(load("big"), quick)
    yield from _demo(load("demo"), quick)
    smaller: dict[str, Any] | None = None
    for peers in (50, 100) if quick else (100, 1_000, 10_000):
        smaller = _hops(peers, smaller)
        yield smaller


def small(scenario: Scenario) -> Scenario:
    """The same in a world of a few peers, for a few minutes."""
    changes = {"peers": 30, "bootstraps": 2, "workload.puts": 5, "duration_s": 200}
    if scenario.workload.gets:
        changes["workload.gets"] = 10
    return scenario.with_overrides(changes)


def _big(scenario: Scenario, quick: bool) -> Row:
    if quick:
        scenario = small(scenario)
    summary, _ = _run(scenario, quick)
    return {
        "benchmark": "scale",
        "case": f"{scenario.name}, {scenario.peers} peers, {summary['virtual_s']:g} virtual seconds",
        "ratio": rounded(summary["virtual_s"] / summary["wall_s"]),
        "ready_s": rounded(summary["ready_s"]),
        "wall_s": rounded(summary["wall_s"]),
        "events": summary["events"],
        "events_per_s": rounded(summary["events_per_s"]),
        "handshakes": summary["handshakes"],
        "success_ratio": summary["lookups"]["success_ratio"],
        "memory_bytes": summary["peak_memory"],
        **{f"{name}_share": each for name, each in summary["time_share"].items()},
        "cores": summary["shards"],
    }


def _demo(scenario: Scenario, quick: bool) -> Iterator[Row]:
    if quick:
        scenario = small(scenario)
    last: dict[int, dict[str, Any]] = {}

    def total_s(shards: int) -> float:
        last[shards], seconds = _run(scenario.with_overrides({"shards": shards}), quick)
        return seconds

    contenders = {"one shard": partial(total_s, 1), OURS: partial(total_s, 2)}
    figures = interleaved(contenders, 1 if quick else DEMO_ROUNDS)
    result = row("scale", f"{scenario.name}, {scenario.peers} peers on 2 shards", "total_s", figures)
    one, two = last[1], last[2]
    yield result | {
        "ready_s": rounded(two["ready_s"]),
        "events_per_s": rounded(two["events_per_s"]),
        "one_shard_events_per_s": rounded(one["events_per_s"]),
        "success_ratio": two["lookups"]["success_ratio"],
        "memory_bytes": two["peak_memory"],
        **{f"{name}_share": each for name, each in two["time_share"].items()},
        "same_digest": one["digest"] == two["digest"],
        "cores": 2,
    }


def _hops(peers: int, smaller: Row | None) -> Row:
    scenario = Scenario.from_table({"name": "hops", "peers": peers, **HOPS})
    summary, _ = _run(scenario, inline=True)
    lookups = summary["lookups"]
    hops, theory = lookups["hops"] or {}, lookups["hops_theory"]
    result: Row = {"benchmark": "scale", "case": f"hops, {peers} peers", "hops": rounded(hops["mean"])}
    result |= {"theory_hops": theory, "beside": "theory", "ratio": rounded(hops["mean"] / theory)}
    result |= {f"hops_{name}": hops[name] for name in ("p50", "p90", "p99")}
    if smaller is not None:
        doublings = log2(peers / smaller["peers"])
        result["hops_per_doubling"] = rounded((hops["mean"] - smaller["hops"]) / doublings)
        result["theory_hops_per_doubling"] = rounded((theory - smaller["theory_hops"]) / doublings)
    result |= {"success_ratio": lookups["success_ratio"], "gets": lookups["count"], "peers": peers, "cores": 1}
    return result


def _run(scenario: Scenario, inline: bool) -> tuple[dict[str, Any], float]:
    """The figures of a run, and its seconds."""
    start = time.perf_counter()
    outcome: Outcome = simulate(scenario, inline=inline)
    return summarise(outcome, operations(outcome)), time.perf_counter() - start


if __name__ == "__main__":
    main(run)
