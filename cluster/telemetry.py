"""What a run measured, in the terms of OpenTelemetry.

Spans and counters are made by hosts, on the run's clock, and are final when a run is: so they become the SDK's own
data types here, at the end, rather than pass through its tracers and meters, which read the wall clock and
draw their ids. Shards have added their counters up by then; no series is of one peer.

Time 0 of a run is midnight of 1 January 2000, UTC, whatever the wall clock said: the same run writes the same spans,
and a viewer shows 00:03:20 for virtual second 200.

In the run folder, spans are lines of OTLP's JSON (one request a line), which a collector's file receiver reads;
``export`` sends them.
"""

import json
import os
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from actors.host import SpanRow
from cluster.sections import NS_PER_S
from cluster.simulation import Outcome
from cluster.summary import histograms, installed
from protocols.errors import LocalError

EPOCH_NS: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * NS_PER_S
"""When a run begins, in Unix time."""

BATCH: Final = 512
"""Spans in a request; the SDK's own default."""

KINDS: Final[Mapping[str, SpanKind]] = {"rpc.call": SpanKind.CLIENT, "rpc.serve": SpanKind.SERVER}

RESERVED: Final = ("peer", "service")
"""What every span says of itself."""

# -- spans ------------------------------------------------------------------------------------------------


def resource(outcome: Outcome, run: str) -> Resource:
    """Who says all this. ``run`` is the name of its folder."""
    return Resource.create(
        {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or "spacepanda",
            "service.version": installed("spacepanda"),
            "service.instance.id": run,
            "spacepanda.run": run,
            "spacepanda.scenario": outcome.scenario.name,
            "spacepanda.seed": outcome.scenario.seed,
        }
    )


def sdk_spans(rows: Iterable[SpanRow], origin: Resource) -> Iterator[ReadableSpan]:
    """Finished spans as the SDK's, with the ids and times they have."""
    scope = InstrumentationScope("spacepanda", installed("spacepanda"))
    for row in rows:
        span = row.span
        parent = _context(span.trace_id, span.parent_id) if any(span.parent_id) else None
        attributes: dict[str, str | bool | int | float] = {"peer": row.peer, "service": row.service}
        attributes |= {key: _plain(value) for key, value in row.attributes.items()}
        yield ReadableSpan(
            span.name,
            context=_context(span.trace_id, span.span_id),
            parent=parent,
            resource=origin,
            attributes=attributes,
            kind=KINDS.get(span.name, SpanKind.INTERNAL),
            start_time=EPOCH_NS + span.start,
            end_time=EPOCH_NS + row.end,
            instrumentation_scope=scope,
        )


def write_spans(path: Path, outcome: Outcome, run: str) -> None:
    """Write the spans, ordered by their beginning, as lines of OTLP's JSON."""
    origin = resource(outcome, run)
    with path.open("w", encoding="utf-8") as file:
        for batch in batches(outcome.spans, origin):
            request = MessageToDict(encode_spans(batch), use_integers_for_enums=True)
            for span in _spans_of(request):
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in span:
                        span[key] = _hex(span[key])
            file.write(json.dumps(request, separators=(",", ":")) + "\n")


SpanTableRow = tuple[str, str, str | None, str, int, str, float, float, str]


def spans_table(rows: Iterable[SpanRow]) -> list[SpanTableRow]:
    """``(trace, span, parent, name, peer, service, start_s, end_s, attributes)``, the last as JSON."""
    return [
        (
            row.span.trace_id.hex(),
            row.span.span_id.hex(),
            row.span.parent_id.hex() if any(row.span.parent_id) else None,
            row.span.name,
            row.peer,
            row.service,
            row.span.start / NS_PER_S,
            row.end / NS_PER_S,
            json.dumps({key: _plain(value) for key, value in row.attributes.items()}),
        )
        for row in _ordered(rows)
    ]


def read_spans(path: Path) -> list[SpanTableRow]:
    """The same table, from a file that ``write_spans`` wrote."""
    rows: list[SpanTableRow] = []
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                for span in _spans_of(json.loads(line)):
                    attributes = {each["key"]: _value(each["value"]) for each in span["attributes"]}
                    peer, service = (attributes.pop(key) for key in RESERVED)
                    start, end = (
                        (int(span[key]) - EPOCH_NS) / NS_PER_S for key in ("startTimeUnixNano", "endTimeUnixNano")
                    )
                    parent = span.get("parentSpanId")
                    identity = (span["traceId"], span["spanId"], parent, span["name"])
                    rows.append((*identity, peer, service, start, end, json.dumps(attributes)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{str(path)!r} cannot be read: {error}") from None
    return rows


def batches(rows: Iterable[SpanRow], origin: Resource) -> Iterator[tuple[ReadableSpan, ...]]:
    """The spans in order, as many at a time as a request holds."""
    spans = sdk_spans(_ordered(rows), origin)
    while batch := tuple(islice(spans, BATCH)):
        yield batch


def _ordered(rows: Iterable[SpanRow]) -> list[SpanRow]:
    """The order of spans on disk, whatever number of shards they came from."""
    return sorted(rows, key=lambda row: (row.span.start, row.span.trace_id, row.end, row.peer, row.span.span_id))


def _spans_of(request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for each in request["resourceSpans"]:
        for scope in each["scopeSpans"]:
            yield from scope["spans"]


def _context(trace: bytes, span: bytes) -> SpanContext:
    return SpanContext(
        int.from_bytes(trace, "big"), int.from_bytes(span, "big"), is_remote=False, trace_flags=TraceFlags(1)
    )


def _plain(value: object) -> str | bool | int | float:
    """OpenTelemetry attributes are of few types; keys and ids are shown in hex."""
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | bool | int | float) else str(value)


def _value(value: Mapping[str, Any]) -> Any:
    [(kind, content)] = value.items()
    return int(content) if kind == "intValue" else content


def _hex(base64: str) -> str:
    """OTLP's JSON writes ids in hex, where Protobuf's own mapping would have base64."""
    return b64decode(base64).hex()


# -- metrics ----------------------------------------------------------------------------------------------


def metrics_data(outcome: Outcome, run: str) -> MetricsData:
    """Every counter as ``spacepanda_<name>_total``, every histogram as ``spacepanda_<name>``, as of the run's end."""
    end = EPOCH_NS + outcome.now
    points: dict[str, list[NumberDataPoint]] = {}
    for (name, label), n in outcome.counters().items():
        attributes = {"label": label} if label else {}
        points.setdefault(name, []).append(NumberDataPoint(attributes, EPOCH_NS, end, n))
    metrics = [
        Metric(f"spacepanda_{name}_total", "", "1", Sum(each, AggregationTemporality.CUMULATIVE, is_monotonic=True))
        for name, each in points.items()
    ]
    for name, buckets in histograms(outcome).items():
        unit = "ns" if name.endswith("_ns") else "1"
        point = _histogram_point(buckets, end)
        about = "sum, min and max follow from the buckets' bounds"
        metrics.append(Metric(f"spacepanda_{name}", about, unit, Histogram([point], AggregationTemporality.CUMULATIVE)))
    scope = ScopeMetrics(InstrumentationScope("spacepanda", installed("spacepanda")), metrics, "")
    return MetricsData([ResourceMetrics(resource(outcome, run), [scope], "")])


def _histogram_point(buckets: Mapping[int, int], end: int) -> HistogramDataPoint:
    """Hosts count integers in buckets of powers of two; ``2**b - 1`` is the largest of bucket ``b``."""
    lowest, highest = min(buckets), max(buckets)
    bounds = [2**bucket - 1 for bucket in range(lowest, highest + 1)]
    middle = {bucket: (2**bucket - 1 + (2 ** (bucket - 1) if bucket else 0)) / 2 for bucket in buckets}
    return HistogramDataPoint(
        {},
        EPOCH_NS,
        end,
        count=sum(buckets.values()),
        sum=sum(middle[bucket] * n for bucket, n in buckets.items()),
        bucket_counts=[buckets.get(bucket, 0) for bucket in range(lowest, highest + 1)] + [0],
        explicit_bounds=[float(bound) for bound in bounds],
        min=2 ** (lowest - 1) if lowest else 0,
        max=bounds[-1],
    )
