"""What every benchmark yields, and how it measures: rows that are one JSON object a line.

A row has ``benchmark``, ``case``, ``cores`` (how many the measured work may use), our figure under its unit (``us``,
``bytes``, ``per_s``), the figure of each peer as ``<peer>_<unit>``, and ``ratio``, which says how we compare with the
one named in ``beside``; each benchmark's docstring says which way is good. A peer that is not installed has a row
with ``skipped`` and the reason.

The machine's speed drifts by half within minutes, so contenders take turns, round by round. A figure is the
median of its rounds, and a ratio the median of the ratios of the rounds: a slow stretch then counts on both sides.
"""

import argparse
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from statistics import median
from types import ModuleType
from typing import Any, Final

Row = dict[str, Any]
Run = Callable[[bool], Iterator[Row]]
"""``run(quick)``: all rows of a benchmark; if quick, of so little work that only the code is tested."""

OURS: Final = "spacepanda"


def interleaved(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each contender measured in each round; they take turns."""
    figures: dict[str, list[float]] = {who: [] for who in contenders}
    for _ in range(rounds):
        for who, measure in contenders.items():
            figures[who].append(measure())
    return figures


def time_us(work: Callable[[], object], calls: int) -> float:
    """Microseconds of one of so many calls."""
    start = time.perf_counter_ns()
    for _ in range(calls):
        work()
    return (time.perf_counter_ns() - start) / calls / 1_000


def traced_bytes(make: Callable[[int], object], count: int) -> float:
    """What one more object costs, by what Python allocates for ``count`` of them."""
    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        kept = [make(number) for number in range(1, count + 1)]
        return (tracemalloc.get_traced_memory()[0] - sys.getsizeof(kept)) / count
    finally:
        tracemalloc.stop()


def row(
    benchmark: str,
    case: str,
    unit: str,
    figures: Mapping[str, Sequence[float]],
    *,
    beside: str | None = None,
    cores: int = 1,
    **more: Any,
) -> Row:
    """The row of figures that were measured side by side, round by round; ours are those of ``OURS``.

    Args:
        beside: whose figures ours are divided by, round by round; by default the first peer's.
        more: what else there is to say.
    """
    ours = figures[OURS]
    peers = [who for who in figures if who != OURS]
    against = beside or (peers[0] if peers else None)
    result: Row = {"benchmark": benchmark, "case": case, unit: rounded(median(ours))}
    for who in peers:
        result[f"{key(who)}_{unit}"] = rounded(median(figures[who]))
    if against is not None:
        result["beside"] = against
    theirs = figures[against] if against is not None else ()
    result["ratio"] = rounded(median(a / b for a, b in zip(ours, theirs, strict=True))) if theirs else None
    return result | more | {"cores": cores}


def skipped(benchmark: str, case: str, peer: str, reason: object) -> Row:
    """The row of a peer that cannot be measured here."""
    return {"benchmark": benchmark, "case": case, "beside": peer, "ratio": None, "skipped": str(reason), "cores": 1}


def package(name: str) -> ModuleType | str:
    """A peer's package, or why there is none. None of them is needed to run SpacePanda."""
    try:
        return import_module(name)
    except ImportError as error:
        return str(error)


def key(who: str) -> str:
    """A peer's name as the beginning of a key."""
    return "_".join("".join(each if each.isalnum() else " " for each in who).split())


def rounded(value: float) -> float:
    """Four digits: more would be noise."""
    if value == 0 or abs(value) >= 1_000:
        return round(value)
    return float(f"{value:.4g}")


def main(run: Run) -> None:
    """Print the rows of one benchmark as they come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="so little work that the figures mean nothing")
    for each in run(parser.parse_args().quick):
        print(json.dumps(each), flush=True)
