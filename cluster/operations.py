"""What peers are asked to do, what came of it, and how the outcomes are counted.

Percentiles are nearest-rank: the p-th of n values is the one at place ceil(p n / 100) in ascending order.
It is a value that occurred, in integers, so no library's idea of interpolation enters a result.

The success ratio counts every get, timeouts and wrong values included, with two exceptions: ``interrupted``
ones, whose asker went down before the deadline and had no answer yet, and ``local`` ones, whose asker turned out
to hold the record, so that nothing was tried. Latency and hops are those of gets that succeeded.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from actors.host import EventRow
from actors.randomness import Stream, derive_key
from cluster.churn import up_since
from cluster.scenario import Scenario
from cluster.sections import NS_PER_MS, nanoseconds
from cluster.world import World

OperationKind = Literal["put", "get", "proof", "write", "grant", "revoke"]

KINDS: Final = get_args(OperationKind)
"""Events of the workload that go by these names are outcomes."""

Outcome = Literal["ok", "local", "not_found", "wrong", "timeout", "not_stored", "refused", "interrupted"]
"""Of a get: found elsewhere, found in one's own store, not found, another value than was put, no answer in
time. Of a put: ``ok``, or ``not_stored`` when no node took it. Of all others: ``ok``, or ``refused``."""

UNCOUNTED: Final = ("interrupted", "local")
"""Outcomes that say nothing about whether a record can be found."""


class Operation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that one peer does."""

    number: int
    """Unique in the plan; also the token of the request."""
    kind: OperationKind
    at: int
    deadline: int
    record: int
    """The number of the put whose record this is about; of a proof, its issuer; of a grant or a revocation, whose."""
    key: bytes
    """The record's, or the device of the other peer; of a write, the channel."""


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of an operation; after the first three, the fields of its event."""

    peer: int
    kind: OperationKind
    done_at: int
    number: int
    key: bytes
    asked_at: int
    outcome: Outcome
    hops: int
    rpcs: int
    reason: str = ""
    """Why it was refused."""


Number = TypeVar("Number", int, float)

Plan = dict[int, tuple[Operation, ...]]
"""Peer to what it does, in the order of time."""


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What the records of a scenario say, so that whoever gets one can tell whether it is right."""

    seed: int
    size: int
    ttl_s: int

    @classmethod
    def of(cls, scenario: Scenario) -> "Content":
        """The content of the records of ``scenario``."""
        return cls(scenario.seed, scenario.workload.record_bytes, scenario.workload.ttl_s)

    def value(self, record: int) -> bytes:
        """The value of a record."""
        return Stream(derive_key(self.seed, "record", record)).entropy(self.size)


def record_name(record: int) -> bytes:
    """The name under which a publisher puts a record."""
    return b"record-%d" % record


def during(operations: Iterable[Operation], up_at: int, down_at: int | None) -> tuple[Operation, ...]:
    """Those that fall into one uptime."""
    return tuple(each for each in operations if up_at <= each.at and (down_at is None or each.at < down_at))


def outcomes(plan: Mapping[int, Sequence[Operation]], events: Iterable[EventRow], world: World, end: int) -> list[Row]:
    """What came of every operation that was due before ``end``, where the run ended, in the order of their numbers.

    An operation without an event is ``interrupted`` if its peer, or the run, went down before the deadline.
    Otherwise it should have ended somehow, and counts as a ``timeout``: nothing that we lose looks better for it.
    """
    rows: dict[int, Row] = {}
    for event in events:
        if event.service == "workload" and event.name in KINDS:
            number, key, *rest = event.fields.values()
            values = [event.peer, event.name, event.time, number, bytes.fromhex(str(key)), *rest]
            row = msgspec.convert(values, Row)
            rows[row.number] = row
    for peer, operations in plan.items():
        for each in operations:
            if each.number not in rows and each.at < end:
                stayed = up_since(world.schedule(peer), each.at) == up_since(world.schedule(peer), each.deadline)
                outcome: Outcome = "timeout" if stayed and each.deadline <= end else "interrupted"
                done_at = min(each.deadline, end)
                rows[each.number] = Row(peer, each.kind, done_at, each.number, each.key, each.at, outcome, 0, 0)
    return [rows[number] for number in sorted(rows)]


def percentile(ascending: Sequence[Number], percent: int) -> Number:
    """The nearest-rank percentile of at least one value."""
    return ascending[max(0, -(-percent * len(ascending) // 100) - 1)]


def summary(rows: Iterable[Row], kind: OperationKind = "get") -> dict[str, Any]:
    """Counts, success ratio, hops and latencies of one kind of operation; ``None`` where there is nothing to say."""
    chosen = [row for row in rows if row.kind == kind]
    outcomes: dict[str, int] = {}
    for row in chosen:
        outcomes[row.outcome] = outcomes.get(row.outcome, 0) + 1
    counted = len(chosen) - sum(outcomes.get(each, 0) for each in UNCOUNTED)
    found = [row for row in chosen if row.outcome == "ok"]
    latencies = sorted(row.done_at - row.asked_at for row in found)
    return {
        "count": len(chosen),
        "counted": counted,
        "outcomes": dict(sorted(outcomes.items())),
        "success_ratio": len(found) / counted if counted else None,
        "hops": _distribution(sorted(row.hops for row in found), 1),
        "rpcs": _distribution(sorted(row.rpcs for row in found), 1),
        "latency_ms": _distribution(latencies, NS_PER_MS),
    }


def phases(rows: Iterable[Row], scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The summary of gets before, during and after the scenario's partitions, by when they were asked.

    "during" includes gets whose deadline lies behind the cut's beginning; "after" begins when the last cut ends.
    """
    cuts = scenario.network.partitions
    if not cuts:
        return {}
    begin = min(nanoseconds(cut.from_s) for cut in cuts) - nanoseconds(scenario.workload.get_timeout_s)
    end = max(nanoseconds(cut.until_s) for cut in cuts)
    kept = list(rows)
    return {
        "before": summary(row for row in kept if row.asked_at < begin),
        "during": summary(row for row in kept if begin <= row.asked_at < end),
        "after": summary(row for row in kept if row.asked_at >= end),
    }


def _distribution(ascending: Sequence[int], unit: int) -> dict[str, float] | None:
    if not ascending:
        return None
    scaled = [value / unit for value in ascending] if unit > 1 else ascending
    quantiles: dict[str, float] = {f"p{percent}": percentile(scaled, percent) for percent in (50, 90, 99)}
    return quantiles | {"mean": sum(ascending) / len(ascending) / unit}
