"""A collector of OpenTelemetry data on loopback: real HTTP, real Protobuf, nothing of ours."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """What it was sent."""

    def __init__(self, status: int) -> None:
        self.url = ""
        self.status = status
        self.traces: list[Any] = []
        self.metrics: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    def resource(self) -> dict[str, Any]:
        return _attributes(self.traces[0].resource_spans[0].resource.attributes)

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.traces
            for each in request.resource_spans
            for scope in each.scope_spans
            for span in scope.spans
        ]

    def points(self) -> dict[str, Any]:
        """Metrics by name."""
        return {
            metric.name: metric
            for request in self.metrics
            for each in request.resource_metrics
            for scope in each.scope_metrics
            for metric in scope.metrics
        }


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


attributes = _attributes


@contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    """One that answers ``status`` to everything, for as long as the block lasts."""
    state = Collector(status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.paths.append(self.path)
            state.headers.append(dict(self.headers))
            if self.headers["Content-Type"] != "application/x-protobuf":
                self.send_error(415)
                return
            if self.path == "/v1/traces":
                state.traces.append(ExportTraceServiceRequest.FromString(body))
            elif self.path == "/v1/metrics":
                state.metrics.append(ExportMetricsServiceRequest.FromString(body))
            self.send_response(state.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
