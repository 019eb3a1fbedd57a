"""Runs and their stages as spans, for whoever follows all their systems in one place (extra `otel`)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from anomaly.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

FLUSH_SECONDS = 5  # what a command waits at its end for a collector that is slow


class Traces:
    """Spans of runs, and of stages within them, whichever thread they happen in.

    exporter: where they go; default: OTLP over HTTP to `address` (http://host:4318).

    Raises: SettingsError if OpenTelemetry is not installed.
    """

    def __init__(self, address: str, version: str, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise SettingsError(
                f"[telemetry] otlp: {error.name} is not installed here. Install the extra: "
                "pip install 'anomaly[otel]', or leave the setting out."
            ) from error
        named = Resource.create({"service.name": "anomaly", "service.version": version})
        self._provider = TracerProvider(resource=named)
        to = exporter or OTLPSpanExporter(f"{address.rstrip('/')}/v1/traces", timeout=FLUSH_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(to))
        self._tracer = self._provider.get_tracer("anomaly", version)
        self._within = trace.set_span_in_context
        self._runs: dict[int, Context] = {}
        self._lock = threading.Lock()

    @contextmanager
    def run(self, number: int, name: str, attributes: Mapping[str, Any]) -> Iterator[None]:
        """A span around a run; sent when it ends. number: the run's line in the ledger."""
        with self._tracer.start_as_current_span(name, attributes=dict(attributes)) as span:
            with self._lock:
                self._runs[number] = self._within(span)
            try:
                yield
            finally:
                with self._lock:
                    del self._runs[number]
        self._provider.force_flush(1_000 * FLUSH_SECONDS)

    @contextmanager
    def stage(self, number: int, name: str) -> Iterator[None]:
        """A span within that of its run."""
        with self._lock:
            within = self._runs.get(number)
        with self._tracer.start_as_current_span(
            name, within, attributes={"anomaly.run_id": number}
        ):
            yield
