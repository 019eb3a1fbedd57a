"""From what breaks to who is told: a real scheduler and real runs, Prometheus, Alertmanager, a receiver.

Rules are those of deploy/, with limits and durations shortened so that waiting takes seconds. The same
Prometheus answers every query of the dashboards.
"""

import datetime as dt
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from anomaly.feedback import Label, Terms
from anomaly.settings import Settings
from anomaly.store import FlagFilter
from anomaly.telemetry.collector import build_registry
from anomaly.web.app import create_app
from pipelines.jobs.month import run_month
from pipelines.schedule import do_job
from pipelines.services import Services, utc_now
from tests.fixtures.hanging import LEASE, MONTH, live_services
from tests.fixtures.jobs import behaviour
from tests.fixtures.programs import free_port, running
from tests.fixtures.receivers import serving as answering
from tests.fixtures.serving import door_of, serving

PATIENCE_SECONDS = 60
# Limits of the rules, and what stands in their place here. The lease is three seconds.
SHORTENED = {
    "(anomaly_run_progress_timestamp_seconds) > 1800": 4,
    "(anomaly_scheduler_lease_end_timestamp_seconds) > 120": 3,
    "> 2 * 86400": 12,
}
HEART = 'anomaly_run_heartbeat_timestamp_seconds{exported_job="month"}'
PEAKS = {("u2", "2026-03-12T03:00"): 400.0}


@dataclass
class Receiver:
    """What Alertmanager passed on: for each alert, whether it fires, since when, and its words."""

    firing: dict[str, bool] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    said: dict[str, dict[str, str]] = field(default_factory=dict)

    def take(self, body: dict) -> None:
        for alert in body["alerts"]:
            name, fires = alert["labels"]["alertname"], alert["status"] == "firing"
            if self.firing.get(name, False) is not fires:
                self.firing[name], self.since[name] = fires, time.monotonic()
                self.said[name] = alert["annotations"]

    def wait(self, names: set[str], firing: bool, began: float) -> dict[str, float]:
        """Wait until all of these fire, or none; gives the seconds that each took since `began`."""
        until = time.monotonic() + PATIENCE_SECONDS
        while missing := {it for it in names if self.firing.get(it, False) is not firing}:
            word = "firing" if firing else "resolved"
            assert time.monotonic() < until, f"not {word}: {missing}; {self.firing}"
            time.sleep(0.1)
        return {name: round(self.since[name] - began, 1) for name in sorted(names)}


@contextmanager
def receiver() -> Iterator[tuple[Receiver, str]]:
    """A webhook for Alertmanager, and its address."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with answering(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield kept, f"http://127.0.0.1:{port}/"


def shortened(rules: str) -> str:
    """The rules with short limits and durations."""
    for limit, seconds in SHORTENED.items():
        assert rules.count(limit) == 1, limit
        rules = rules.replace(limit, limit.rpartition("> ")[0] + f"> {seconds}")
    return re.sub(r"for: \w+", "for: 1s", rules)


@contextmanager
def alertmanager_at(program: Path, folder: Path, webhook: str) -> Iterator[str]:
    config = folder / "alertmanager.yml"
    route = {"receiver": "all", "group_wait": "0s", "group_interval": "1s", "group_by": ["..."]}
    hook = {"url": webhook, "send_resolved": True}
    config.write_text(
        yaml.safe_dump({"route": route, "receivers": [{"name": "all", "webhook_configs": [hook]}]})
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    ]
    with running(command, f"http://{address}/-/ready", folder / "alertmanager.log"):
        yield address


@contextmanager
def prometheus_at(
    program: Path, folder: Path, rules: str, target: str, alerts: str
) -> Iterator[str]:
    (folder / "rules.yml").write_text(rules)
    config = folder / "prometheus.yml"
    every = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config.write_text(
        yaml.safe_dump(
            {
                "global": every,
                "rule_files": ["rules.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
                "scrape_configs": [
                    {
                        "job_name": "anomaly",
                        "scrape_interval": "1s",
                        "scrape_timeout": "1s",
                        "static_configs": [{"targets": [target]}],
                    }
                ],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--rules.alert.resend-delay=1s",
    ]
    with running(command, f"http://{address}/-/ready", folder / "prometheus.log"):
        yield f"http://{address}"


def ask(prometheus: str, path: str, **query: object) -> Any:
    with urllib.request.urlopen(
        f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    ) as it:
        answer = json.load(it)
    assert answer["status"] == "success"
    data = answer["data"]
    return data.get("result", data) if isinstance(data, dict) else data


@dataclass
class Company:
    """A source that grows when told to."""

    file: Path

    def __post_init__(self) -> None:
        with sqlite3.connect(self.file) as source:
            source.execute("CREATE TABLE activity (user_id, metric, observed_at, value)")

    @property
    def settings(self) -> dict[str, object]:
        return {"url": f"sqlite:///{self.file}", "table": "activity"}

    def grow(self) -> None:
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        with sqlite3.connect(self.file) as source:
            source.execute(
                "INSERT INTO activity VALUES ('u1', 'logons', ?, 1.0)", [now.isoformat()]
            )


def ingest(services: Services) -> None:
    list(do_job(services, "ingest", None))


@contextmanager
def scheduler(url: str) -> Iterator[subprocess.Popen]:
    """`anomaly schedule`, killed at the end if it still runs."""
    environment = {
        **os.environ,
        "ANOMALY_DATABASE__URL": url,
        "ANOMALY_RUN__LEASE": LEASE,
    }
    command = [sys.executable, "-m", "pipelines", "schedule"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def hung_run(url: str, folder: Path) -> Iterator[None]:
    """A month's run that hangs while it scores; its heart goes on beating."""
    command = [sys.executable, "-m", "tests.fixtures.hanging", url, str(folder)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    try:
        assert "scoring\n" in iter(process.stdout.readline, "")  # log lines come before it
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def page_without_schedule(url: str, port: int) -> Iterator[None]:
    """`anomaly serve --no-schedule`, killed at the end."""
    command = [sys.executable, "-m", "pipelines", "serve", "--no-schedule", "--port", str(port)]
    environment = {**os.environ, "ANOMALY_DATABASE__URL": url}
    log = Path(url.removeprefix("sqlite:///")).with_name("serve.log")
    with running(command, f"http://127.0.0.1:{port}/metrics", log, environment=environment):
        yield


@contextmanager
def metrics_of(services: Services, port: int) -> Iterator[None]:
    """/metrics, as the server without a schedule gives it."""
    registry = build_registry(services.store, lambda: False, utc_now, channels=["mailto"])
    app = create_app(services.store, Settings(), registry, lambda: False, door_of(services.store))
    with serving(app, port):
        yield


def test_what_breaks_is_told_and_what_is_mended_is_no_longer(
    sqlite_url, tmp_path, repository, prometheus, alertmanager
):
    company = Company(tmp_path / "company.db")
    services = live_services(sqlite_url, tmp_path, source=company.settings)
    services.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "t")
    rules = shortened((repository / "deploy" / "prometheus" / "alerts.yml").read_text())
    port = free_port()
    broken = {"AnomalyNoLeader", "AnomalySourceStale", "AnomalyRunStuck"}
    with ExitStack() as going:
        kept, hook = going.enter_context(receiver())
        passing = going.enter_context(alertmanager_at(alertmanager, tmp_path, hook))
        first = going.enter_context(scheduler(sqlite_url))
        with page_without_schedule(sqlite_url, port):
            watching = going.enter_context(
                prometheus_at(prometheus, tmp_path, rules, f"127.0.0.1:{port}", passing)
            )
            wait_for_data(watching, "anomaly_scheduler_lease_end_timestamp_seconds > time()")
            silent = time.monotonic()
            company.grow()
            ingest(services)
            assert not any(kept.firing.get(name) for name in broken)
            with hung_run(sqlite_url, tmp_path):
                hung = time.monotonic()
                first.kill()
                fired = kept.wait({"AnomalySourceStale"}, True, silent)
                fired |= kept.wait({"AnomalyNoLeader", "AnomalyRunStuck"}, True, hung)
                assert age_of(watching, HEART) < 4, "it hangs, but its process lives"
            assert "does not get on" in kept.said["AnomalyRunStuck"]["summary"]
            mended = time.monotonic()
            going.enter_context(scheduler(sqlite_url))
            run_month(services, MONTH)  # goes on with what hung, whose process is dead now
            company.grow()
            ingest(services)
            cleared = kept.wait(broken, False, mended)
            assert not kept.firing.get("AnomalyTargetAbsent")
            assert [one["health"] for one in ask(watching, "targets")["activeTargets"]] == ["up"]
            gone = time.monotonic()
        fired |= kept.wait({"AnomalyTargetAbsent"}, True, gone)
        back = time.monotonic()
        with page_without_schedule(sqlite_url, port):
            cleared |= kept.wait({"AnomalyTargetAbsent"}, False, back)
    sys.stderr.write(f"fired after {fired}, cleared after {cleared}\n")


def age_of(prometheus: str, timestamp: str) -> float:
    """Seconds since what a metric says."""
    (found,) = ask(prometheus, "query", query=f"time() - {timestamp}")
    return float(found["value"][1])


def wait_for_data(prometheus: str, query: str) -> list:
    for _ in range(PATIENCE_SECONDS * 5):
        if found := ask(prometheus, "query", query=query):
            return found
        time.sleep(0.2)
    raise AssertionError(f"no data: {query}")


def panels(repository: Path) -> Iterator[tuple[str, dict]]:
    for file in sorted((repository / "deploy" / "grafana").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            yield file.stem, panel


def test_every_panel_shows_something(sqlite_url, tmp_path, repository, prometheus):
    """Each query of the dashboards is asked of a Prometheus that scraped what a real month left."""
    company = Company(tmp_path / "company.db")
    services = live_services(sqlite_url, tmp_path, source=company.settings)
    services.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "t")
    company.grow()
    ingest(services)
    run = run_month(services, MONTH)
    assert run.flags
    now = utc_now()
    services.store.lease.acquire("scheduler", "me", dt.timedelta(hours=1), now)
    for row in services.store.flags.select(FlagFilter(str(MONTH))):
        services.store.feedback.label(
            [Label(row.flag.flag_id, "true", "ann")], Terms(1.5, dt.timedelta(days=90)), now
        )
    rules = (repository / "deploy" / "prometheus" / "alerts.yml").read_text()
    port = free_port()
    with (
        metrics_of(services, port),
        prometheus_at(prometheus, tmp_path, rules, f"127.0.0.1:{port}", "127.0.0.1:9") as watching,
    ):
        wait_for_data(watching, "count_over_time(anomaly_build_info[1m]) >= 3")
        for board, panel in panels(repository):
            for target in panel["targets"]:
                assert wait_for_data(watching, target["expr"]), f"{board}: {panel['title']}"
        named = ask(
            watching,
            "query_exemplars",
            query="anomaly_runs_total",
            start=0,
            end=now.timestamp() + 60,
        )
    numbers = {one["labels"]["run_id"] for series in named for one in series["exemplars"]}
    assert {str(known.id) for known in services.store.ledger.runs(job="month")} <= numbers


def test_what_each_run_counts_anew_is_not_called_new(repository):
    """A flag that three nightly scorings raise is three in the counter."""
    again = re.compile(r"anomaly_(flags|users_scored|rows_read)_total")
    told = [panel for _, panel in panels(repository) if again.search(str(panel["targets"]))]
    assert len(told) == 4
    for panel in told:
        assert "new" not in panel["title"].lower()
        assert re.search(r"again|whole month", panel["description"]), panel["title"]


def test_dashboards_are_whole(repository):
    """What Grafana asks of a dashboard's file; Grafana itself does not run here."""
    for file in (repository / "deploy" / "grafana").glob("*.json"):
        board = json.loads(file.read_text())
        assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(board)
        (source,) = board["templating"]["list"]
        assert (source["name"], source["type"]) == ("datasource", "datasource")
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        taken = set()
        for panel in board["panels"]:
            assert panel["type"] in {"stat", "timeseries", "table", "bargauge"}
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, f"{file.name}: {panel['title']} lies over another panel"
            taken |= cells
    for file in (repository / "deploy" / "grafana" / "provisioning").rglob("*.yml"):
        assert yaml.safe_load(file.read_text())["apiVersion"] == 1
