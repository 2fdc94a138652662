"""The run folder: what a run leaves, readable without us.

    runs/2026-11-24T1503-demo-7/
      scenario.toml        resolved, with the seed: enough to repeat the run
      summary.json         the figures
      events.parquet       what happened at which peer
      metrics.parquet      every counter over virtual time
      operations.parquet   every put, get and proof
      spans.jsonl          sampled traces, as OTLP

The folder is made before the run, so that a disk that is full or forbidden is found out before the work is done, and
a run that dies has said what it was. A folder is never written twice.

``Run`` gives the tables as polars data frames, whether it was just made or is read from disk.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from actors.host import EventRow
from cluster.export import export
from cluster.operations import Row
from cluster.scenario import Scenario
from cluster.sections import NS_PER_MS, NS_PER_S
from cluster.simulation import Outcome, Sample
from cluster.summary import operations, summarise
from cluster.telemetry import read_spans, spans_table, write_spans
from protocols.errors import LocalError

SCENARIO: Final = "scenario.toml"
SUMMARY: Final = "summary.json"
SPANS: Final = "spans.jsonl"
TABLES: Final = ("events", "metrics", "operations")

FOLDERS_MAX: Final = 10_000
"""Runs of one scenario and seed in one minute; who has more is in a loop."""

EVENT_COLUMNS: Final = ("time_s", "peer", "service", "name")


class Run:
    """A finished run: its figures and its tables."""

    def __init__(
        self,
        scenario: Scenario,
        summary: dict[str, Any],
        folder: Path | None,
        tables: Mapping[str, Callable[[], pl.DataFrame]],
    ) -> None:
        self.scenario: Final = scenario
        self.summary: Final = summary
        """What ``summary.json`` says."""
        self.folder: Final = folder
        """None if the run was not written."""
        self.warnings: Final[list[str]] = []
        """What went wrong beside the run: telemetry that nobody took."""
        self._tables: Final = tables
        self._frames: Final[dict[str, pl.DataFrame]] = {}

    def events(self) -> pl.DataFrame:
        """What happened: ``time_s, peer, service, name``, and a column for every field that some event has."""
        return self._frame("events")

    def metrics(self) -> pl.DataFrame:
        """Counters over virtual time: ``time_s, name, label, value``; values are running totals of all peers."""
        return self._frame("metrics")

    def operations(self) -> pl.DataFrame:
        """Puts, gets, proofs: ``peer, number, kind, key, asked_s, done_s, latency_ms, outcome, hops, rpcs, reason``."""
        return self._frame("operations")

    def spans(self) -> pl.DataFrame:
        """Sampled traces, a row a span: ``trace, span, parent, name, peer, service, start_s, end_s, attributes``."""
        return self._frame("spans")

    def _frame(self, name: str) -> pl.DataFrame:
        if name not in self._frames:
            self._frames[name] = self._tables[name]()
        return self._frames[name]

    def __repr__(self) -> str:
        where = "in memory" if self.folder is None else str(self.folder)
        return f"<Run {self.scenario.name}, seed {self.scenario.seed}, {where}>"


def create(scenario: Scenario, parent: Path | str = "runs") -> Path:
    """A new folder in ``parent`` for a run of ``scenario``.

    Raises:
        LocalError: it cannot be made.
    """
    name = re.sub(r"[^\w.-]+", "_", scenario.name)
    base = f"{datetime.now():%Y-%m-%dT%H%M}-{name}-{scenario.seed}"
    for attempt in range(1, FOLDERS_MAX):
        folder = Path(parent) / (base if attempt == 1 else f"{base}-{attempt}")
        try:
            folder.mkdir(parents=True)
            (folder / SCENARIO).write_text(scenario.to_toml(), encoding="utf-8")
        except FileExistsError:
            if not Path(parent).is_dir():
                raise LocalError(f"no run folder in {str(parent)!r}: it is not a folder") from None
        except OSError as error:
            raise LocalError(f"no run folder in {str(parent)!r}: {error.strerror or error}") from None
        else:
            return folder
    raise LocalError(f"{str(parent)!r} has {FOLDERS_MAX} runs of this minute already")


def write(outcome: Outcome, folder: Path | str | None) -> Run:
    """Write a run into the folder that ``create`` made for it, and send its telemetry; with None, only keep it.

    Raises:
        LocalError: the folder has a run already, or cannot be written.
    """
    rows = operations(outcome)
    run = Run(
        outcome.scenario,
        summarise(outcome, rows),
        None if folder is None else Path(folder),
        {
            "events": lambda: events_frame(outcome.events),
            "metrics": lambda: metrics_frame(outcome.series),
            "operations": lambda: operations_frame(rows),
            "spans": lambda: _spans_frame(spans_table(outcome.spans)),
        },
    )
    run.warnings.extend(_quarantined(outcome))
    if run.folder is None:
        run.warnings.extend(export(outcome, f"{outcome.scenario.name}-{outcome.scenario.seed}"))
        return run
    if (run.folder / SUMMARY).exists():
        raise LocalError(f"{str(folder)!r} has a run already")
    try:
        for name in TABLES:
            run._frame(name).write_parquet(run.folder / f"{name}.parquet")
        write_spans(run.folder / SPANS, outcome, run.folder.name)
        (run.folder / SCENARIO).write_text(outcome.scenario.to_toml(), encoding="utf-8")
        # Last, as a folder with a summary is a complete one.
        (run.folder / SUMMARY).write_text(json.dumps(run.summary, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise LocalError(f"the run cannot be written to {str(folder)!r}: {error.strerror or error}") from None
    run.warnings.extend(export(outcome, run.folder.name))
    return run


def _quarantined(outcome: Outcome) -> list[str]:
    """A warning, if peers of a real-time run failed by a bug."""
    rows = [row for row in outcome.events if row.name == "quarantined"]
    return (
        [f"{len(rows)} peers failed by a bug and were stopped; the first: {rows[0].fields['detail']}"] if rows else []
    )


def load(folder: Path | str) -> Run:
    """The run that a folder holds.

    Raises:
        LocalError: it holds no complete run.
        ScenarioError: its scenario is one that this version cannot run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LocalError(f"there is no run folder {str(folder)!r}")
    try:
        text = (folder / SCENARIO).read_text(encoding="utf-8")
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LocalError(
            f"{str(folder)!r} is not the folder of a finished run: no {Path(error.filename).name}"
        ) from None
    except (OSError, ValueError) as error:
        raise LocalError(f"{str(folder)!r} cannot be read: {error}") from None
    if not isinstance(summary, dict):
        raise LocalError(f"{str(folder)!r} cannot be read: {SUMMARY} is not an object")
    scenario = Scenario.from_toml(text, str(folder / SCENARIO))

    def reader(name: str) -> Callable[[], pl.DataFrame]:
        return lambda: _read_parquet(folder / f"{name}.parquet")

    tables = {name: reader(name) for name in TABLES}
    return Run(scenario, summary, folder, tables | {"spans": lambda: _spans_frame(read_spans(folder / SPANS))})


# -- tables -----------------------------------------------------------------------------------------------


def events_frame(events: Sequence[EventRow]) -> pl.DataFrame:
    """Events in the order of time, then of peers. A field that is not always an integer of 64 bits becomes text."""
    rows = sorted(events, key=lambda each: (each.time, each.peer))
    columns: dict[str, Any] = {
        "time_s": pl.Series([row.time / NS_PER_S for row in rows], dtype=pl.Float64),
        "peer": pl.Series([row.peer for row in rows], dtype=pl.Int64),
        "service": pl.Series([row.service for row in rows], dtype=pl.String),
        "name": pl.Series([row.name for row in rows], dtype=pl.String),
    }
    for field in dict.fromkeys(field for row in rows for field in row.fields):
        values = [row.fields.get(field) for row in rows]
        column = f"{field}_" if field in EVENT_COLUMNS else field
        if all(value is None or (isinstance(value, int) and -(2**63) <= value < 2**63) for value in values):
            columns[column] = pl.Series(values, dtype=pl.Int64)
        else:
            texts = [None if value is None else str(value) for value in values]
            columns[column] = pl.Series(texts, dtype=pl.String)
    return pl.DataFrame(columns)


def metrics_frame(series: Iterable[Sample]) -> pl.DataFrame:
    rows = [(each.time / NS_PER_S, each.name, each.label, each.value) for each in series]
    schema = {"time_s": pl.Float64, "name": pl.String, "label": pl.String, "value": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def operations_frame(rows: Iterable[Row]) -> pl.DataFrame:
    values = [
        (
            row.peer,
            row.number,
            row.kind,
            row.key.hex(),
            row.asked_at / NS_PER_S,
            row.done_at / NS_PER_S,
            (row.done_at - row.asked_at) / NS_PER_MS,
            row.outcome,
            row.hops,
            row.rpcs,
            row.reason,
        )
        for row in sorted(rows, key=lambda each: (each.asked_at, each.number))
    ]
    schema = {
        "peer": pl.Int64,
        "number": pl.Int64,
        "kind": pl.String,
        "key": pl.String,
        "asked_s": pl.Float64,
        "done_s": pl.Float64,
        "latency_ms": pl.Float64,
        "outcome": pl.String,
        "hops": pl.Int64,
        "rpcs": pl.Int64,
        "reason": pl.String,
    }
    return pl.DataFrame(values, schema=schema, orient="row")


def _spans_frame(rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    schema = {
        "trace": pl.String,
        "span": pl.String,
        "parent": pl.String,
        "name": pl.String,
        "peer": pl.Int64,
        "service": pl.String,
        "start_s": pl.Float64,
        "end_s": pl.Float64,
        "attributes": pl.String,
    }
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LocalError(f"{str(path)!r} cannot be read: {error}") from None
