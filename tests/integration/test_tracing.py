"""What other systems are told of runs and training: spans by OTLP, figures in MLflow."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from anomaly.months import Month
from anomaly.settings import with_values
from anomaly.telemetry.tracking import CARD, EXPERIMENT
from pipelines.jobs.month import run_month
from pipelines.tracing import traced
from tests.fixtures.jobs import Clock, at, behaviour, make_services
from tests.fixtures.programs import free_port, running

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


@pytest.fixture
def mlflow_server(tmp_path) -> Iterator[str]:
    """The address of an MLflow server that keeps its runs in SQLite and hands artefacts on."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--workers=1", "--host=127.0.0.1", f"--port={port}",
        f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db", f"--artifacts-destination={tmp_path}/mlflow",
    ]  # fmt: skip
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = tmp_path / "mlflow.log"
    with running(command, f"{address}/health", log, {**os.environ, **quiet}, seconds=120):
        yield address


def test_mlflow_gets_what_was_fitted_and_who_serves(services, mlflow_server, tmp_path):
    outcome = run_month(with_telemetry(services, mlflow=mlflow_server), MARCH)
    client = MlflowClient(tracking_uri=mlflow_server)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id])
    runs = {it.info.run_name: it for it in found}
    assert set(runs) == {row.version for row in services.store.models.list()}
    assert {it.info.status for it in found} == {"FINISHED"}
    serves = runs[outcome.model_version]
    assert serves.data.tags["anomaly.serves"] == "True"
    assert serves.data.metrics["validation_loss"] == 1.0
    assert serves.data.params["cell"] == services.settings.model.cell
    card = client.download_artifacts(serves.info.run_id, CARD, str(tmp_path))
    told = json.loads(Path(card).read_text())
    champion = services.store.models.get(outcome.model_version)
    assert told["tags"]["sha256"] == champion.sha256
    assert told["figures"]["validation_loss"] == 1.0
    assert not any(f'"u{user}"' in Path(card).read_text() for user in range(6))  # nobody's name


def test_an_mlflow_that_is_away_fails_nothing(services, tmp_path, capsys):
    file = tmp_path / "no-folder"
    file.write_text("")
    outcome = run_month(with_telemetry(services, mlflow=file.as_uri()), MARCH)
    assert outcome.state == "complete"
    assert "did not take the figures of model" in capsys.readouterr().out
