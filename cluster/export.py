"""Telemetry to a collector: OTLP over HTTP, as the standard variables of OpenTelemetry say.

With ``OTEL_EXPORTER_OTLP_ENDPOINT`` set, or the one of a signal, spans and metrics are sent there when a run has
ended. The SDK's exporters read the other variables (headers, timeout, certificates, compression), its resource
reads ``OTEL_RESOURCE_ATTRIBUTES``. A collector that does not answer costs seconds and a warning, never the run.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from cluster.simulation import Outcome
from cluster.telemetry import batches, metrics_data, resource

TIMEOUT_S: Final = 3.0
"""For a request to a collector, retries included, unless ``OTEL_EXPORTER_OTLP_TIMEOUT`` says otherwise. The SDK's ten
seconds, once for each signal, are long for who waits for a result."""

SIGNALS: Final = ("TRACES", "METRICS")


class ExportError(Exception):
    """A collector did not take what it was sent; the text says why."""


def endpoint(signal: str) -> str | None:
    """Where the standard variables want ``TRACES`` or ``METRICS`` sent; None for nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return None
    return (
        os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None
    )


def export(outcome: Outcome, run: str) -> list[str]:
    """Send spans and metrics to wherever the standard variables say, if they say so.

    Returns:
        a warning for each collector that did not take them; it is the same collector for both, as a rule, and then
        it is asked once.
    """
    warnings: list[str] = []
    failed: set[str] = set()
    for signal, send in zip(SIGNALS, (_send_spans, _send_metrics), strict=True):
        target = endpoint(signal)
        if target is None or _host(target) in failed:
            continue
        try:
            with _quiet() as log:
                send(outcome, run, log)
        except Exception as error:
            # Whatever the exporters make of their variables and of the network: the run's results are not lost to it.
            failed.add(_host(target))
            warnings.append(f"telemetry was not sent to {target}: {error}")
    return warnings


class _Log(logging.Handler):
    """Keeps what an exporter has to say, which is the only way it says why it failed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def reason(self) -> str:
        """In a few words. The first line is it; those that follow are about giving up."""
        first = self.lines[0].splitlines()[0] if self.lines else ""
        if system := re.search(r"\[Errno -?\d+\] ([\w ]+)", first):
            return system[1].lower()
        return "no answer" if not first or "timed out" in first or "due to timeout" in first else first[:200]


@contextmanager
def _quiet() -> Iterator[_Log]:
    """Keep the exporters' log lines off the terminal."""
    logger = logging.getLogger("opentelemetry")
    handler, propagate = _Log(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)


@contextmanager
def _shutting_down(exporter: Any) -> Iterator[None]:
    """The SDK's way of closing."""
    try:
        yield
    finally:
        exporter.shutdown()


def _send_spans(outcome: Outcome, run: str, log: _Log) -> None:
    _check_protocol("TRACES")
    exporter = OTLPSpanExporter(timeout=_timeout_s("TRACES"))
    with _shutting_down(exporter):
        for batch in batches(outcome.spans, resource(outcome, run)):
            if exporter.export(batch) is not SpanExportResult.SUCCESS:
                raise ExportError(log.reason())


def _send_metrics(outcome: Outcome, run: str, log: _Log) -> None:
    _check_protocol("METRICS")
    exporter = OTLPMetricExporter(timeout=_timeout_s("METRICS"))
    with _shutting_down(exporter):
        if exporter.export(metrics_data(outcome, run)) is not MetricExportResult.SUCCESS:
            raise ExportError(log.reason())


def _timeout_s(signal: str) -> float | None:
    """None leaves it to the variables."""
    names = (f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
    return None if any(os.environ.get(name) for name in names) else TIMEOUT_S


def _check_protocol(signal: str) -> None:
    for name in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        wanted = os.environ.get(name)
        if wanted:
            if wanted != "http/protobuf":
                raise ExportError(f"{name} = {wanted!r}, but only 'http/protobuf' is spoken here")
            return


def _host(target: str) -> str:
    """The collector of an endpoint, whatever the path."""
    return "/".join(target.split("/")[:3])
