"""The reader of range queries, against the real server."""

from __future__ import annotations

import datetime as dt
import socket
import subprocess
import time
import urllib.request

import pytest

from anomaly.exceptions import SettingsError, SourceError
from anomaly.settings import Settings
from anomaly.sources import Checks
from anomaly.sources.prometheus import PrometheusReader
from anomaly.sources.readers import read_batches
from pipelines.jobs.ingest import ingest_source, source_name
from tests.fixtures.installing import free_port
from tests.fixtures.jobs import Clock, make_services

START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
HOURS = 30
STEP = 3_600


@pytest.fixture(scope="module")
def server(prometheus, promtool, tmp_path_factory):
    """Thirty hours in which ada logs on twice an hour and bob five times, written beforehand."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = ["# TYPE logons_total counter"]
    for user, rate in (("ada", 2), ("bob", 5)):
        lines += [
            f'logons_total{{user="{user}",host="h1"}} {rate * tick} {int(START.timestamp()) + tick * 1_800}'
            for tick in range(2 * HOURS + 1)
        ]
    (folder / "made.txt").write_text("\n".join([*lines, "# EOF"]) + "\n")
    making = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        folder / "made.txt",
        folder / "data",
    ]
    subprocess.run(making, check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    port = free_port()
    process = subprocess.Popen(
        [prometheus, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         "--storage.tsdb.retention.time=50y", f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/-/ready")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.1)
        else:
            return


def reader(address: str, query: str = "sum by (user) (increase(logons_total[$step]))", **other):
    return PrometheusReader(address, {"logons": query}, "user", **other)


def rows(found, since=START, until=START + dt.timedelta(hours=HOURS)):
    checks = Checks(now=int(until.timestamp()))
    batches = list(read_batches(found, "prometheus", since, until, STEP, checks))
    assert not [reject for batch in batches for reject in batch.rejects]
    return [row for batch in batches for row in batch.table.to_pylist()]


def test_each_step_holds_what_happened_within_it(server):
    found = {(row["user_id"], row["observed_at"]): row["value"] for row in rows(reader(server))}
    at = START + dt.timedelta(hours=5)
    assert found["ada", at] == pytest.approx(4, abs=0.2)
    assert found["bob", at] == pytest.approx(10, abs=0.5)
    assert {user for user, _ in found} == {"ada", "bob"}
    assert len(found) >= 2 * (HOURS - 1)


def test_what_is_new_alone_is_read(server):
    later = rows(reader(server), since=START + dt.timedelta(hours=20))
    assert min(row["observed_at"] for row in later) == START + dt.timedelta(hours=20)


def test_it_goes_on_where_an_earlier_build_left_it(server, sqlite_url, tmp_path):
    """Its silence counts as a database's; an earlier build called it as it would a file."""
    now = START + dt.timedelta(hours=HOURS)
    source = {
        "reader": "prometheus",
        "overlap": "1h",
        "options": {
            "url": server,
            "queries": {"logons": "sum by (user) (increase(logons_total[$step]))"},
            "user": "user",
        },
    }
    settings = Settings.model_validate({"database": {"url": sqlite_url}, "source": source})
    services = make_services(sqlite_url, tmp_path, Clock(now), settings)
    ledger, read_until = services.store.ledger, START + dt.timedelta(hours=20)
    run = ledger.start("ingest", configuration="c", code_version="1", now=START)
    ledger.finish(run, "complete", read_until, source="prometheus", watermark=read_until)
    assert source_name(settings.source) == "reader:prometheus"
    for hours in (19, HOURS - 2):
        done = ingest_source(services)
        assert done.source == "reader:prometheus"
        first, _ = services.store.observations.span()
        assert first == START + dt.timedelta(hours=19)
        assert done.tally.read <= 2 * (HOURS + 1 - hours)
    assert ledger.watermark("reader:prometheus") > read_until


def test_a_series_without_the_user_is_refused(server):
    with pytest.raises(SettingsError, match="has no label 'user'.*sum by"):
        rows(reader(server, "sum by (host) (increase(logons_total[$step]))"))


def test_a_wrong_expression_and_a_server_that_is_away_are_told_apart(server):
    with pytest.raises(SourceError, match="query logons was refused .400"):
        rows(reader(server, "sum by ("))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        away = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with pytest.raises(SourceError, match="got no answer"):
        rows(reader(away))
    with pytest.raises(SettingsError, match="does not begin with http"):
        reader("file:///etc/passwd")
