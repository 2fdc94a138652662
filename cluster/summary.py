"""The figures of a run, as ``summary.json`` has them and the table shows them.

Whatever is random in the machine and not in the run (wall time, memory) stands beside what a seed decides, so
two summaries are compared by ``digest`` and not as files. Numbers are of the unit that their name ends in; what
cannot be said, such as the latency of no gets, is null.
"""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from cluster.agreement import convergence
from cluster.invariants import possession
from cluster.operations import Row, outcomes, phases, summary
from cluster.registry import WORKLOADS
from cluster.sections import NS_PER_S
from cluster.simulation import Outcome
from cluster.theory import expected_hops
from cluster.world import World

LIBRARIES: Final = ("cryptography", "msgspec", "pynacl", "ray", "xxhash")
"""Those that a digest could depend on, and Ray."""


def installed(package: str) -> str:
    """The installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def operations(outcome: Outcome) -> list[Row]:
    """What came of every put, get and proof that was due; also of those that nobody lived to report."""
    scenario = outcome.scenario
    world = World(scenario)
    plan = WORKLOADS.find(scenario.workload.kind).make.plan(scenario, world)
    return outcomes(plan, outcome.events, world, outcome.now)


def summarise(outcome: Outcome, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything there is to say about a run in figures; ``rows`` are its ``operations``."""
    scenario = outcome.scenario
    counters = outcome.counters()
    up = sum(report.up for report in outcome.reports)
    lookups = summary(rows, "get")
    theory = expected_hops(up, scenario.kademlia.k, scenario.kademlia.alpha) if up and lookups["count"] else None
    replicas = _convergence(outcome, rows, counters) if scenario.workload.kind == "convergence" else None
    return {
        "version": installed("spacepanda"),
        "versions": {"python": platform.python_version()} | {name: installed(name) for name in LIBRARIES},
        "scenario": scenario.name,
        "seed": scenario.seed,
        "time": scenario.time,
        "placement": scenario.placement,
        "peers": scenario.peers,
        "peers_up": up,
        "shards": outcome.shards,
        "interrupted": outcome.interrupted,
        "virtual_s": outcome.now / NS_PER_S,
        "ready_s": round(outcome.ready_s, 3),
        "wall_s": round(outcome.wall_s, 3),
        "events": outcome.handled,
        "events_per_s": round(outcome.handled / outcome.wall_s, 1) if outcome.wall_s else None,
        "packets": _total(counters, "packets_sent"),
        "bytes": _total(counters, "bytes_sent"),
        "drops": _labels(counters, "packets_dropped"),
        "handshakes": counters.get(("sessions_up", "initiator"), 0),
        "dials_failed": _labels(counters, "dials_failed"),
        "lookups": lookups | {"hops_theory": None if theory is None else round(theory, 3)},
        "puts": summary(rows, "put"),
        "phases": phases(rows, scenario),
        "security_events": _labels(counters, "security_events"),
        "journal": _journal(counters) if scenario.disk.kind != "none" else None,
        "possession": _possession(outcome, rows, counters) if scenario.workload.kind == "possession" else None,
        "convergence": replicas,
        "broken": [] if replicas is None or outcome.interrupted else replicas["broken"],
        "peak_memory": outcome.peak_memory,
        "time_share": time_share(outcome),
        "counters": _nested(counters),
        "histograms": {name: _bounds(buckets) for name, buckets in histograms(outcome).items()},
        "digest": outcome.digest or None,
    }


def time_share(outcome: Outcome) -> dict[str, float]:
    """Which part of the shards' time went into handlers, into packing what crosses, into waiting for each other."""
    shares = {
        name: sum(getattr(report, f"{name}_ns") for report in outcome.reports)
        for name in ("handlers", "packing", "waiting")
    }
    total = sum(shares.values()) or 1
    return {name: round(each / total, 4) for name, each in shares.items()}


def histograms(outcome: Outcome) -> dict[str, dict[int, int]]:
    """Every histogram over all shards; bucket ``b`` counts the values below ``2**b``, at or above ``2**(b-1)``."""
    total: dict[str, dict[int, int]] = {}
    for report in outcome.reports:
        for name, buckets in report.histograms.items():
            mine = total.setdefault(name, {})
            for bucket, n in buckets.items():
                mine[bucket] = mine.get(bucket, 0) + n
    return {name: dict(sorted(total[name].items())) for name in sorted(total)}


def _possession(outcome: Outcome, rows: Sequence[Row], counters: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """What peers proved to each other; ``checks`` are all that issuers made, of impostors' proofs too, by outcome."""
    checks = {"checks": _labels(counters, "possession_checks")}
    return possession(rows, outcome.events, World(outcome.scenario)) | checks


def _convergence(outcome: Outcome, rows: Sequence[Row], counters: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """How replicas stood at the end, and what all of them did for that, liars' victims included."""
    traffic = {
        "taken": _total(counters, "crdt_operations"),
        "duplicates": _total(counters, "crdt_duplicates"),
        "parked_units": _total(counters, "crdt_parked"),
        "refused_units": _labels(counters, "crdt_units_refused"),
        "exchanges": _labels(counters, "crdt_exchanges"),
        "accusations": _total(counters, "crdt_accusations"),
    }
    return convergence(rows, outcome.events, World(outcome.scenario)) | {"traffic": traffic}


def _journal(counters: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """What peers wrote down, what those who came back found, and what the disks lost."""
    return {
        "records": _total(counters, "journal_records"),
        "batches": _total(counters, "journal_batches"),
        "bytes": _total(counters, "journal_bytes"),
        "streams": _labels(counters, "journal_streams"),
        "records_recovered": _total(counters, "journal_records_recovered"),
        "torn": _total(counters, "journal_torn"),
        "torn_bytes": _total(counters, "journal_torn_bytes"),
        "disks_failed": _labels(counters, "disks_failed"),
    }


def _total(counters: Mapping[tuple[str, str], int], name: str) -> int:
    return sum(n for (each, _), n in counters.items() if each == name)


def _labels(counters: Mapping[tuple[str, str], int], name: str) -> dict[str, int]:
    return {label: n for (each, label), n in counters.items() if each == name}


def _nested(counters: Mapping[tuple[str, str], int]) -> dict[str, int | dict[str, int]]:
    """Name to number, or to numbers by label where there are labels."""
    names = dict.fromkeys(name for name, _ in counters)
    tables = {name: _labels(counters, name) for name in names}
    return {name: table[""] if list(table) == [""] else table for name, table in tables.items()}


def _bounds(buckets: Mapping[int, int]) -> dict[str, int]:
    """Upper bound (exclusive) to the number of values in that bucket."""
    return {str(2**bucket): n for bucket, n in buckets.items()}
