import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.export import export
from cluster.results import create, write
from cluster.telemetry import EPOCH_NS, metrics_data, read_spans, spans_table, write_spans
from tests.cluster.collector import attributes, collector
from tests.cluster.tiny import tiny, tiny_outcome

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
LAYERS = {"get", "kad.lookup", "rpc.call", "rpc.serve", "admission.packet", "admission.request", "session.open"}


@pytest.fixture(autouse=True)
def only_our_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [each for each in os.environ if each.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def closed_port() -> int:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def test_sampled_get_reaches_a_collector_as_one_trace_across_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        monkeypatch.setenv(ENDPOINT, received.url)
        assert export(tiny_outcome(), "run-1") == []
    spans = received.spans()
    assert len(spans) == len(tiny_outcome().spans)
    traces: dict[bytes, list[Any]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    gets = [each for each in traces.values() if "get" in {span.name for span in each}]
    assert len(gets) == 8
    for trace in gets:
        assert {span.name for span in trace} >= LAYERS
        [root] = [span for span in trace if not span.parent_span_id]
        assert root.name == "get"
        ids = {span.span_id for span in trace}
        assert len(ids) == len(trace)
        assert all(span.parent_span_id in ids for span in trace if span is not root)
        assert len({attributes(span.attributes)["peer"] for span in trace}) > 1
        assert all(span.end_time_unix_nano >= span.start_time_unix_nano >= root.start_time_unix_nano for span in trace)


def test_served_request_is_the_child_of_the_call_at_another_peer() -> None:
    spans = {row.span.span_id: row for row in tiny_outcome().spans}
    served = [row for row in spans.values() if row.span.name == "rpc.serve"]
    assert served
    for row in served:
        call = spans[row.span.parent_id]
        assert call.span.name == "rpc.call"
        assert call.peer != row.peer
        assert call.span.start < row.span.start


def test_collector_is_told_which_run_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        monkeypatch.setenv(ENDPOINT, received.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "lab=north")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc")
        export(tiny_outcome(), "2026-tiny-7")
    told = received.resource()
    assert told["service.name"] == "spacepanda"
    assert (told["spacepanda.run"], told["spacepanda.scenario"], told["spacepanda.seed"]) == ("2026-tiny-7", "tiny", 7)
    assert told["lab"] == "north"
    assert {headers["x-token"] for headers in received.headers} == {"abc"}


def test_counters_and_histograms_reach_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = tiny_outcome()
    with collector() as received:
        monkeypatch.setenv(ENDPOINT, received.url)
        export(outcome, "run-1")
    metrics = received.points()
    counters = outcome.counters()
    assert {f"spacepanda_{name}_total" for name, _ in counters} <= metrics.keys()
    for (name, label), n in counters.items():
        points = metrics[f"spacepanda_{name}_total"].sum.data_points
        assert [p.as_int for p in points if attributes(p.attributes).get("label", "") == label] == [n]
    hops = metrics["spacepanda_kad_lookup_hops"].histogram.data_points[0]
    assert sum(hops.bucket_counts) == hops.count == sum(n for (name, _), n in counters.items() if name == "kad_lookups")
    assert len(hops.bucket_counts) == len(hops.explicit_bounds) + 1
    assert hops.time_unix_nano == EPOCH_NS + 60 * 10**9


def test_histogram_bounds_are_the_largest_values_of_the_buckets() -> None:
    [resource] = metrics_data(tiny_outcome(), "x").resource_metrics
    [hops] = [each for each in resource.scope_metrics[0].metrics if each.name == "spacepanda_kad_lookup_hops"]
    point: Any = hops.data.data_points[0]
    assert point.explicit_bounds[-1] in (1.0, 3.0, 7.0)
    assert point.bucket_counts[-1] == 0
    assert point.min <= point.sum / point.count <= point.max


def test_signal_can_have_an_endpoint_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{received.url}/v1/traces")
        assert export(tiny_outcome(), "run-1") == []
    assert set(received.paths) == {"/v1/traces"}


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {}])
def test_nothing_is_sent_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, off: dict[str, str]) -> None:
    with collector() as received:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if off else "PATH_TO_NOWHERE", received.url)
        for name, value in off.items():
            monkeypatch.setenv(name, value)
        assert export(tiny_outcome(), "run-1") == []
    assert received.paths == []


def test_collector_that_is_down_costs_a_warning_and_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
    run = write(tiny_outcome(), create(tiny(), tmp_path))
    [warning] = run.warnings
    assert warning.startswith("telemetry was not sent to http://127.0.0.1:")
    assert warning.endswith(("connection refused", "no answer"))
    assert "\n" not in warning
    assert run.folder is not None
    assert (run.folder / "spans.jsonl").stat().st_size > 0
    assert capfd.readouterr() == ("", "")


def test_collector_that_never_answers_does_not_hang_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.3")
        began = time.monotonic()
        [warning] = export(tiny_outcome(), "run-1")
    assert warning.endswith("no answer")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({ENDPOINT: "nonsense"}, "nonsense"),
        ({ENDPOINT: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "'http/protobuf'"),
        ({ENDPOINT: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_COMPRESSION": "zip"}, "zip"),
    ],
)
def test_variable_that_makes_no_sense_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    [warning] = export(tiny_outcome(), "run-1")
    assert complaint in warning


def test_collector_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(status=400) as received:
        monkeypatch.setenv(ENDPOINT, received.url)
        [warning] = export(tiny_outcome(), "run-1")
    assert "400" in warning


def test_spans_on_disk_are_otlp_json_with_virtual_times(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    write_spans(path, tiny_outcome(), "run-1")
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    spans = [
        span
        for request in requests
        for each in request["resourceSpans"]
        for scope in each["scopeSpans"]
        for span in scope["spans"]
    ]
    assert len(spans) == len(tiny_outcome().spans)
    for span in spans:
        assert (len(bytes.fromhex(span["traceId"])), len(bytes.fromhex(span["spanId"]))) == (16, 8)
        assert isinstance(span["kind"], int)
        assert 0 <= int(span["startTimeUnixNano"]) - EPOCH_NS <= 60 * 10**9


def test_spans_read_back_are_those_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    write_spans(path, tiny_outcome(), "run-1")
    rows = read_spans(path)
    assert rows == spans_table(tiny_outcome().spans)
    assert {row[3] for row in rows} >= LAYERS


def test_same_run_writes_the_same_spans(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_spans(tmp_path / name, tiny_outcome(), "run-1")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_digest_is_the_same_whatever_share_is_sampled() -> None:
    outcomes = {sample: tiny_outcome(telemetry__sample=sample) for sample in (0.0, 0.5, 1.0)}
    assert len({outcome.digest for outcome in outcomes.values()}) == 1
    counts = [len(outcome.spans) for outcome in outcomes.values()]
    assert 0 == counts[0] < counts[1] < counts[2]


def test_half_of_the_traces_is_kept_whole_or_not_at_all() -> None:
    whole = {row.span.trace_id: 0 for row in tiny_outcome(telemetry__sample=1.0).spans}
    for row in tiny_outcome(telemetry__sample=1.0).spans:
        whole[row.span.trace_id] += 1
    kept: dict[bytes, int] = {}
    for row in tiny_outcome(telemetry__sample=0.5).spans:
        kept[row.span.trace_id] = kept.get(row.span.trace_id, 0) + 1
    assert kept
    assert len(kept) < len(whole)
    assert all(whole[trace] == n for trace, n in kept.items())
