"""What other systems are told of runs and training: spans by OTLP, figures in MLflow."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.tracking import MlflowClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from anomaly.months import Month
from anomaly.settings import with_values
from anomaly.telemetry.tracking import EXPERIMENT
from pipelines.jobs.month import run_month
from pipelines.tracing import traced
from tests.fixtures.jobs import Clock, at, behaviour, make_services

MARCH = Month(2026, 3)


@dataclass
class Collected:
    """Spans that arrived at a collector, by name."""

    address: str
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str) -> Span:
        return next(span for span in self.spans if span.name == name)


@contextmanager
def collector() -> Iterator[Collected]:
    """A collector of traces behind a real port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    kept.spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept = Collected(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def services(sqlite_url, tmp_path):
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    made.store.observations.write(behaviour("2026-01", "2026-03"), "test")
    yield made
    made.store.close()


def with_telemetry(services, **values):
    return replace(services, settings=with_values(services.settings, "test", "telemetry", **values))


def test_a_run_is_a_trace_and_its_stages_lie_within(services):
    with collector() as collected:
        services = with_telemetry(services, otlp=collected.address)
        watch = traced(services.watch, services.settings, "1.2")
        run_month(replace(services, watch=watch), MARCH)
    month, score = collected.named("run month"), collected.named("score")
    assert score.parent_span_id == month.span_id
    assert score.trace_id == month.trace_id == collected.named("run train").trace_id
    assert collected.named("fit").parent_span_id == collected.named("run train").span_id
    told = {it.key: it.value.string_value for it in month.attributes}
    assert told["anomaly.month"] == "2026-03"
    said = " ".join(f"{span.name} {span.attributes} {span.events}" for span in collected.spans)
    assert not any(f"u{user}" in said for user in range(6))  # nobody's name


def test_a_collector_that_is_away_fails_nothing(services):
    services = with_telemetry(services, otlp="http://127.0.0.1:1")
    watch = traced(services.watch, services.settings, "1.2")
    assert run_month(replace(services, watch=watch), MARCH).state == "complete"


def test_mlflow_gets_what_was_fitted_and_who_serves(services, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its server is no part of the extra
    address = (tmp_path / "mlruns").as_uri()
    outcome = run_month(with_telemetry(services, mlflow=address), MARCH)
    client = MlflowClient(tracking_uri=address)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = {it.info.run_name: it.data for it in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {row.version for row in services.store.models.list()}
    serves = runs[outcome.model_version]
    assert serves.tags["anomaly.serves"] == "True"
    assert serves.metrics["validation_loss"] == 1.0
    assert serves.params["cell"] == services.settings.model.cell


def test_an_mlflow_that_is_away_fails_nothing(services, tmp_path, capsys):
    file = tmp_path / "no-folder"
    file.write_text("")
    outcome = run_month(with_telemetry(services, mlflow=file.as_uri()), MARCH)
    assert outcome.state == "complete"
    assert "did not take the figures of model" in capsys.readouterr().out
