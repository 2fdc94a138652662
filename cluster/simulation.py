"""A run in virtual time, from a scenario to its outcome.

    outcome = simulate(load("demo"), inline=True)

``simulate`` drives the shards through stretches of virtual time, a fraction of a second of wall time each,
so that somebody can watch; where stretches end decides nothing. Shards are either one in this process, or
Ray actors. What they report is gathered into an ``Outcome``; a run that is interrupted has one too.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from actors.host import EventRow, SpanRow
from cluster.memory import family_memory
from cluster.scenario import Scenario
from cluster.shard import TICK_NS, Report, Shard, decode_report

STRETCH_WALL_S: Final = 0.4
"""How long a stretch should take: often enough for a progress line, seldom enough to cost nothing."""

ROWS_MAX: Final = 4_000_000
"""Rows of events, and of spans, that a driver keeps: a gigabyte. Liars can cause a row with every packet."""

STRETCH_FIRST_NS: Final = 1_000_000_000
STRETCH_MIN_NS: Final = 1_000_000


class Progress(NamedTuple):
    """How far a run is."""

    now: int
    duration: int
    handled: int
    wall_s: float
    up: int

    @property
    def events_per_s(self) -> float:
        return self.handled / self.wall_s if self.wall_s else 0.0

    @property
    def eta_s(self) -> float | None:
        """Wall time still to go if the run goes on as it did."""
        return self.wall_s * (self.duration - self.now) / self.now if self.now else None


class Sample(NamedTuple):
    """One row of the series over virtual time: a counter's running total, over all shards."""

    time: int
    name: str
    label: str
    value: int


@dataclass(slots=True)
class Outcome:
    """Everything that a run left."""

    scenario: Scenario
    shards: int
    reports: list[Report] = field(default_factory=list)
    """The last of each shard."""
    events: list[EventRow] = field(default_factory=list)
    spans: list[SpanRow] = field(default_factory=list)
    series: list[Sample] = field(default_factory=list)
    digest: str = ""
    """Empty if the run was interrupted."""
    ready_s: float = 0.0
    """Wall time until the first event: Ray, workers, identities, tables."""
    wall_s: float = 0.0
    """Wall time of the events."""
    peak_memory: int = 0
    """Bytes (PSS) of the driver, the shards and Ray together."""
    interrupted: bool = False
    discarded: int = 0
    """Rows of the table of events that found no room."""

    def take(self, report: Report) -> None:
        """Add the rows of a report; what exceeds ``ROWS_MAX`` is counted as ``events_discarded``, not kept."""
        room = ROWS_MAX - len(self.events)
        self.events += report.events[:room]
        self.discarded += max(0, len(report.events) - room)
        self.spans += report.spans[: ROWS_MAX - len(self.spans)]

    @property
    def now(self) -> int:
        return min((report.now for report in self.reports), default=0)

    @property
    def handled(self) -> int:
        return sum(report.handled for report in self.reports)

    def counters(self) -> dict[tuple[str, str], int]:
        """Every counter by name and label, over all shards."""
        total: dict[tuple[str, str], int] = {}
        for report in self.reports:
            for name, label, n in report.counters:
                total[name, label] = total.get((name, label), 0) + n
        if self.discarded:
            total["events_discarded", ""] = total.get(("events_discarded", ""), 0) + self.discarded
        return dict(sorted(total.items()))


class Shards(Protocol):
    """The shards of a run, wherever they are."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def prepare(self) -> None:
        """Build all peers."""
        ...

    def advance(self, until: int) -> list[Report]:
        """Have every shard run to ``until``."""
        ...

    def digests(self) -> dict[int, bytes]:
        """Per peer, the hash over every message it handled."""
        ...

    def memory(self) -> int:
        """Bytes in use (PSS)."""
        ...

    def close(self) -> None:
        """Let go of everything, also after a failure."""
        ...


class InlineShards:
    """One shard, in this process."""

    count = 1

    def __init__(self, scenario: Scenario) -> None:
        self._shard = Shard(scenario.to_toml(), 0, 1)

    def prepare(self) -> None:
        self._shard.prepare([])

    def advance(self, until: int) -> list[Report]:
        return [decode_report(self._shard.advance(until))]

    def digests(self) -> dict[int, bytes]:
        return self._shard.digests()

    def memory(self) -> int:
        return family_memory()

    def close(self) -> None:
        self._shard.close()


def simulate(
    scenario: Scenario,
    *,
    inline: bool = False,
    address: str | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run a virtual-time scenario to its end.

    Args:
        inline: in this process, without Ray.
        address: the Ray cluster to join: ``auto`` or ``HOST:PORT``; a local one is started by default.
        watch: called after every stretch.

    Raises:
        ShardLostError: a shard died.
        HandlerError: an actor failed by a bug.
        LocalError: the cluster cannot run this.
    """
    started = time.perf_counter()
    with closing(_shards(scenario, inline, address)) as shards:
        outcome = Outcome(scenario, shards.count)
        try:
            shards.prepare()
            outcome.ready_s = time.perf_counter() - started
            for progress in drive(shards, outcome):
                if watch is not None:
                    watch(progress)
            outcome.digest = overall_digest(shards.digests())
        except KeyboardInterrupt:
            outcome.interrupted = True
        return outcome


def _shards(scenario: Scenario, inline: bool, address: str | None) -> Shards:
    if inline:
        return InlineShards(scenario)
    from cluster.ray_shards import RayShards  # noqa: PLC0415 - an inline run needs no Ray, nor its second of import

    return RayShards(scenario, address)


def drive(shards: Shards, outcome: Outcome) -> Iterator[Progress]:
    """Run stretch by stretch; ``outcome`` has all that was reported, whenever the caller stops."""
    duration = outcome.scenario.duration_ns
    stretch = STRETCH_FIRST_NS
    now = 0
    next_sample = TICK_NS
    started = time.perf_counter()
    while now < duration:
        until = min(now + stretch, next_sample, duration)
        began = time.perf_counter()
        reports = shards.advance(until)
        took = time.perf_counter() - began
        outcome.reports = reports
        outcome.wall_s = time.perf_counter() - started
        for report in reports:
            outcome.take(report)
        now = until
        if now >= next_sample or now == duration:
            outcome.series += [Sample(now, name, label, n) for (name, label), n in outcome.counters().items()]
            outcome.peak_memory = max(outcome.peak_memory, shards.memory())
            next_sample += TICK_NS
        if took < STRETCH_WALL_S / 2:
            stretch *= 2
        elif took > STRETCH_WALL_S:
            stretch = max(stretch // 2, STRETCH_MIN_NS)
        yield Progress(now, duration, outcome.handled, outcome.wall_s, sum(report.up for report in reports))


def overall_digest(digests: dict[int, bytes]) -> str:
    """The run's digest: the hash over every peer's, in the order of their numbers."""
    total = hashlib.sha256()
    for peer in sorted(digests):
        total.update(peer.to_bytes(8, "big") + digests[peer])
    return total.hexdigest()
