"""/metrics: names, what survives, and what a scrape says when the database is away."""

import datetime as dt
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from anomaly.exceptions import SettingsError, SourceError
from anomaly.feedback import Label, Remark, Terms
from anomaly.settings import load
from anomaly.store import Store, open_engine, schema
from anomaly.store.lease import LEADER
from anomaly.telemetry import handing
from anomaly.telemetry.collector import (
    RUN_STATES,
    LedgerCollector,
    build_registry,
    source_label,
)
from tests.factories import (
    MONTH,
    MONTH_START,
    NASTY_NAMES,
    RUN_AT,
    band,
    flag,
    publish_month,
    user_month,
)

NAMES = (
    "anomaly_runs_total",
    "anomaly_run_duration_seconds",
    "anomaly_run_last_success_timestamp_seconds",
    "anomaly_run_last_failure_timestamp_seconds",
    "anomaly_run_heartbeat_timestamp_seconds",
    "anomaly_run_progress_timestamp_seconds",
    "anomaly_month_state",
    "anomaly_month_end_timestamp_seconds",
    "anomaly_month_flags_per_thousand_user_months",
    "anomaly_rows_read_total",
    "anomaly_rows_rejected_total",
    "anomaly_users_scored_total",
    "anomaly_users_skipped_total",
    "anomaly_source_watermark_timestamp_seconds",
    "anomaly_flags_total",
    "anomaly_flags_per_thousand_user_months",
    "anomaly_model_info",
    "anomaly_model_trained_timestamp_seconds",
    "anomaly_model_fallback",
    "anomaly_model_validation_loss",
    "anomaly_calibration_error",
    "anomaly_flag_precision",
    "anomaly_flags_judged",
    "anomaly_jobs_missed_total",
    "anomaly_scheduler_leader",
    "anomaly_scheduler_lease_end_timestamp_seconds",
    "anomaly_notifications_total",
    "anomaly_notification_last_success_timestamp_seconds",
    "anomaly_notification_last_failure_timestamp_seconds",
    "anomaly_build_info",
    "anomaly_database_up",
)


def registry(store: Store) -> CollectorRegistry:
    return build_registry(store, lambda: True, lambda: RUN_AT)


def scraped(store: Store) -> str:
    return generate_latest(registry(store)).decode()


def series(store: Store) -> int:
    """How many series of ours a scrape holds."""
    return len(ours(store))


def ours(store: Store) -> list[str]:
    """The lines of a scrape that are not about this process."""
    return [line for line in scraped(store).splitlines() if line.startswith("anomaly_")]


def value(store: Store, name: str, **labels: str) -> float | None:
    return registry(store).get_sample_value(name, labels)


def flags_total(store: Store) -> float:
    families = text_string_to_metric_families(scraped(store))
    return sum(s.value for f in families for s in f.samples if s.name == "anomaly_flags_total")


def test_every_name_is_there_on_an_empty_database(store):
    text = scraped(store)
    assert [name for name in NAMES if f"# HELP {name} " not in text] == []
    assert "anomaly_database_up 1.0" in text
    assert value(store, "anomaly_users_scored_total") == 0


def test_figures_come_from_the_ledger(store):
    run = publish_month(store)
    assert value(store, "anomaly_runs_total", job="month", state="complete") == 1
    assert value(store, "anomaly_rows_read_total", source="warehouse:behaviour") == 120_000
    assert value(store, "anomaly_rows_rejected_total", reason="bad_time") == 3
    assert value(store, "anomaly_users_scored_total") == 48
    assert value(store, "anomaly_users_skipped_total", reason="too_short") == 1
    assert value(store, "anomaly_flags_total", severity="low", kind="burst") == len(NASTY_NAMES)
    assert value(store, "anomaly_flags_per_thousand_user_months") == pytest.approx(9_000 / 48)
    assert run.finished_at is not None
    last = value(store, "anomaly_run_last_success_timestamp_seconds", job="month")
    assert last == run.finished_at.timestamp()
    watermark = value(
        store, "anomaly_source_watermark_timestamp_seconds", source="warehouse:behaviour"
    )
    assert watermark == (MONTH_START + dt.timedelta(days=31)).timestamp()


def test_the_model_in_use_and_its_twin(store):
    publish_month(store)
    assert value(store, "anomaly_model_info", model="network", version="3f9ac1d2") == 1
    assert value(store, "anomaly_model_validation_loss", model="network") == 1.25
    assert value(store, "anomaly_model_validation_loss", model="twin") == 1.5
    assert value(store, "anomaly_calibration_error") == 0.02
    trained = value(store, "anomaly_model_trained_timestamp_seconds", model="network")
    assert trained == (RUN_AT + dt.timedelta(minutes=1)).timestamp()


def test_a_twin_that_serves_alone_is_called_so(store):
    store.models.register(
        version="7c11", address="models/7c11", sha256="0" * 64, trained_from=RUN_AT, trained_to=RUN_AT,
        validation_loss=1.0, twin_loss=1.0, calibration_error=0.02, users=48, metrics=("files_read",),
        configuration="c0ffee", now=RUN_AT, cell="none",
    )  # fmt: skip
    store.models.promote("7c11", RUN_AT)
    assert value(store, "anomaly_model_info", model="twin", version="7c11") == 1
    assert value(store, "anomaly_model_validation_loss", model="network") is None
    assert value(store, "anomaly_model_trained_timestamp_seconds", model="twin") is not None


def test_durations_are_counted_into_buckets(store):
    publish_month(store)
    name = "anomaly_run_duration_seconds"
    assert value(store, f"{name}_bucket", job="month", stage="score", le="1.0") == 0
    assert value(store, f"{name}_bucket", job="month", stage="score", le="5.0") == 1
    assert value(store, f"{name}_bucket", job="month", stage="score", le="+Inf") == 1
    assert value(store, f"{name}_sum", job="month", stage="score") == 3.5


def test_a_month_has_one_state(store):
    publish_month(store, state="provisional")
    assert value(store, "anomaly_month_state", month=MONTH, state="provisional") == 1
    assert value(store, "anomaly_month_state", month=MONTH, state="complete") == 0
    assert value(store, "anomaly_flags_per_thousand_user_months") is None


def test_counters_never_fall_when_a_run_is_superseded(store):
    publish_month(store)
    before = flags_total(store)
    publish_month(store)
    assert flags_total(store) == 2 * before
    assert value(store, "anomaly_runs_total", job="month", state="complete") == 2


def test_precision_comes_from_feedback(store):
    publish_month(store)
    assert value(store, "anomaly_flag_precision") is None
    real, *false = [row.flag.flag_id for row in store.flags.select()[:4]]
    labels = [Label(real, "true", "ann"), *(Label(one, "false_alarm", "ann") for one in false)]
    store.feedback.label(labels, Terms(1.5, dt.timedelta(days=90)), RUN_AT)
    assert value(store, "anomaly_flag_precision") == 0.25
    store.feedback.remark(Remark(real, "ann", "seen", "acknowledged"), RUN_AT)
    assert value(store, "anomaly_flags_judged", verdict="true") == 1
    assert value(store, "anomaly_flags_judged", verdict="false_alarm") == 3


def test_missed_jobs_are_counted(store):
    store.ledger.missed("score", RUN_AT, RUN_AT + dt.timedelta(hours=6))
    assert value(store, "anomaly_jobs_missed_total", job="score") == 1


def test_no_user_is_named(store):
    publish_month(store)
    text = scraped(store)
    assert "u007" not in text
    assert "<script>" not in text
    assert "boss" not in text


def test_the_page_of_metrics_says_what_the_code_says(repository, fresh):
    page = (repository / "docs" / "metrics.md").read_text()
    missing = [row for row in rows_of_the_page(fresh) if row not in page]
    assert missing == [], "docs/metrics.md: put these rows into the table:\n" + "\n".join(missing)
    named = set(re.findall(r"^\| `(anomaly_\w+)`", page, re.MULTILINE))
    assert named == set(NAMES)


def rows_of_the_page(store):
    """What docs/metrics.md says of each metric, in the order of /metrics."""
    suffix = {"counter": "_total", "info": "_info"}
    for family in LedgerCollector(store, lambda: RUN_AT).collect():
        labels = ", ".join(family._labelnames) or (
            {"anomaly_model": "model, version", "anomaly_build": "version, python"}.get(family.name)
            or "none"
        )
        name = family.name + suffix.get(family.type, "")
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


WATERMARK = "anomaly_source_watermark_timestamp_seconds"


def ingested(store, source, when, planned_for=None):
    """An ingest of rows up to that time."""
    run = store.ledger.start(
        "ingest", configuration="c", code_version="1", now=when, planned_for=planned_for
    )
    store.ledger.finish(run, "complete", when, source=source, watermark=when)


def test_a_source_that_is_no_longer_read_is_not_waited_for(store):
    """History by file, then a table, which was renamed later: neither brings anything for ever."""
    night = RUN_AT + dt.timedelta(days=90)
    store.ledger.plan("ingest", night)  # entered beforehand: its number is lower than the others'
    for source, days in (("history.csv", 0), ("warehouse:log", 30), ("warehouse:old", 60)):
        ingested(store, source, RUN_AT + dt.timedelta(days=days))
    assert value(store, WATERMARK, source="warehouse:old") is not None
    ingested(store, "warehouse:log", night, planned_for=night)
    said = [line for line in ours(store) if line.startswith(WATERMARK)]
    assert len(said) == 1
    assert value(store, WATERMARK, source="warehouse:log") == night.timestamp()


def test_files_are_as_fresh_as_the_newest_of_them(store):
    for source, days in (("march.csv", 31), ("february-corrected.csv", 0)):
        ingested(store, source, MONTH_START + dt.timedelta(days=days))
    newest = MONTH_START + dt.timedelta(days=31)
    assert value(store, WATERMARK, source="file") == newest.timestamp()


def test_files_share_a_label():
    # A file of one user's series is named after the user.
    assert source_label("u007.csv") == "file"
    assert source_label("warehouse:behaviour") == "warehouse:behaviour"
    assert source_label("reader:prometheus") == "reader:prometheus"


def test_a_scrape_without_the_database_says_so(tmp_path):
    lost = Store(open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'a.db'}"), retries=0)
    text = scraped(lost)
    assert "anomaly_database_up 0.0" in text
    assert "anomaly_scheduler_leader 1.0" in text
    assert "anomaly_build_info{" in text
    assert value(lost, "anomaly_users_scored_total") is None
    assert [name for name in NAMES if f"# HELP {name} " not in text] == []


def test_promtool_finds_nothing_to_say(store, promtool: Path):
    publish_month(store)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=scraped(store),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def crowded(store: Store, users: int, metrics: int) -> None:
    """Publish a month of so many users, with a flag on each of so many metrics."""
    names = [f"metric-{number:03d}" for number in range(metrics)]
    band_of_all = band(0)
    flags = [
        flag(f"u{number:05d}", band_of_all, start=number % 700, hours=3, metrics=name)
        for number, name in enumerate(names)
    ]
    months = [user_month(f"u{number:05d}") for number in range(users)]
    start = store.ledger.start("month", MONTH, configuration="c", code_version="1", now=RUN_AT)
    store.publish(start, 0, MONTH, flags, months, {}, None, now=RUN_AT, model_version=None)
    store.ledger.finish(start, "complete", RUN_AT)
    columns = {
        "user_id": ["u00000"] * metrics,
        "metric": names,
        "observed_at": pa.array([0] * metrics, pa.timestamp("s", "UTC")),
        "value": [1.0] * metrics,
    }
    store.observations.write(pa.table(columns), "crowd")


def test_users_and_metrics_add_no_series(fresh):
    """10,000 users and 500 metrics need as many series as a few."""
    store = fresh
    publish_month(store)
    few = series(store)
    crowded(store, 10_000, 500)
    assert value(store, "anomaly_users_scored_total") == 10_048
    assert series(store) == few
    assert few < 200


def test_every_process_says_the_same(database_url):
    engine = open_engine(database_url)
    schema.upgrade(engine)
    first = Store(engine)
    publish_month(first)
    before = ours(first)
    other = Store(open_engine(database_url))  # another process, or this one started again
    assert ours(other) == before
    publish_month(other)
    assert value(first, "anomaly_runs_total", job="month", state="complete") == 2
    first.close()
    other.close()


def test_a_month_that_nobody_ran_is_there_without_a_state(store):
    publish_month(store)
    late = build_registry(store, lambda: True, lambda: RUN_AT + dt.timedelta(days=31))
    name = "anomaly_month_state"
    states = [late.get_sample_value(name, {"month": "2026-04", "state": it}) for it in RUN_STATES]
    assert states == [0] * len(RUN_STATES)
    ended = late.get_sample_value("anomaly_month_end_timestamp_seconds", {"month": "2026-04"})
    assert ended == dt.datetime(2026, 5, 1, tzinfo=dt.UTC).timestamp()
    assert value(store, name, month="2026-04", state="complete") is None


def test_each_complete_month_has_its_rate(store):
    publish_month(store)
    name = "anomaly_month_flags_per_thousand_user_months"
    assert value(store, name, month=MONTH) == pytest.approx(9_000 / 48)


def test_counters_begin_at_zero(store):
    """A first failure must show as an increase, so that there was a value before it."""
    assert value(store, "anomaly_runs_total", job="score", state="failed") == 0
    assert value(store, "anomaly_rows_rejected_total", reason="bad_time") is None
    assert value(store, "anomaly_rows_rejected_total", reason="not_finite") == 0
    assert value(store, "anomaly_jobs_missed_total", job="ingest") == 0
    told = build_registry(store, lambda: True, lambda: RUN_AT, channels=("mailto",))
    labels = {"channel": "mailto", "outcome": "failed"}
    assert told.get_sample_value("anomaly_notifications_total", labels) == 0


def test_it_is_told_when_messages_last_failed_and_were_taken(store):
    success, failure = (
        f"anomaly_notification_last_{end}_timestamp_seconds" for end in ("success", "failure")
    )
    for minutes, outcome in enumerate(("sent", "failed", "sent", "failed")):
        when = RUN_AT + dt.timedelta(minutes=minutes)
        store.notifications.record("soc", "test", outcome, "", when)
    store.notifications.claim("soc", "digest", ["2026-03"], RUN_AT + dt.timedelta(minutes=9))
    store.notifications.record("mailto", "test", "failed", "", RUN_AT)
    assert value(store, success, channel="soc") == RUN_AT.timestamp() + 120
    assert value(store, failure, channel="soc") == RUN_AT.timestamp() + 180
    assert value(store, success, channel="mailto") is None


def test_signs_of_life_failures_and_the_leader(store):
    run = store.ledger.start("train", configuration="c", code_version="1", now=RUN_AT)
    assert value(store, "anomaly_run_heartbeat_timestamp_seconds", job="train") == (
        RUN_AT.timestamp()
    )
    later = RUN_AT + dt.timedelta(seconds=30)
    store.ledger.heartbeat(run, later)
    for name, when in (("heartbeat", later), ("progress", RUN_AT)):
        metric = f"anomaly_run_{name}_timestamp_seconds"
        assert value(store, metric, job="train") == when.timestamp()
    store.ledger.finish(run, "failed", RUN_AT + dt.timedelta(minutes=1), note="no rows")
    assert value(store, "anomaly_run_heartbeat_timestamp_seconds", job="train") is None
    failed = value(store, "anomaly_run_last_failure_timestamp_seconds", job="train")
    assert failed == RUN_AT.timestamp() + 60
    assert value(store, "anomaly_scheduler_lease_end_timestamp_seconds") is None
    store.lease.acquire(LEADER, "me", dt.timedelta(seconds=30), RUN_AT)
    assert value(store, "anomaly_scheduler_lease_end_timestamp_seconds") == RUN_AT.timestamp() + 30


def test_openmetrics_name_the_run(fresh):
    run = publish_month(fresh)
    text = openmetrics.generate_latest(registry(fresh)).decode()
    named = f' # {{run_id="{run.id}"}} '
    assert re.search(
        r'anomaly_run_duration_seconds_bucket{job="month",le="5\.0",stage="score"} 1\.0' + named,
        text,
    )
    assert re.search(r'anomaly_runs_total{job="month",state="complete"} 1\.0' + named, text)
    assert [it.name for it in openmetrics_families(text)][:1] == ["anomaly_runs"]
    assert "run_id" not in scraped(fresh)


def test_the_run_that_ended_last_is_told_by_when_it_ended(store):
    """The run that closes a month takes the row that was planned as the month began."""
    closing = RUN_AT + dt.timedelta(days=30)
    store.ledger.plan("month", closing, MONTH)
    for when, planned_for, seconds in ((RUN_AT, None, 3.0), (closing, closing, 400.0)):
        run = store.ledger.start(
            "month", MONTH, configuration="c", code_version="1", now=when, planned_for=planned_for
        )
        store.ledger.stage(run, "score", seconds)
        store.ledger.finish(run, "failed", when, note="the database went away")
    failed = value(store, "anomaly_run_last_failure_timestamp_seconds", job="month")
    assert failed == closing.timestamp()
    assert store.figures.latest_ends()["month", "failed"].run_id == run.id
    (score,) = store.figures.durations([1.0])
    assert (score.latest.run_id, score.latest.at) == (run.id, closing)
    assert (score.latest_seconds, score.count, score.seconds) == (400.0, 2, 403.0)


def test_a_file_is_written_in_one_step(fresh, tmp_path):
    publish_month(fresh)
    file = tmp_path / "textfiles" / "anomaly.prom"
    file.parent.mkdir()
    file.write_text("old\n")
    kept = file.open()  # a reader who has it open keeps the old figures
    handing.write(file, LedgerCollector(fresh, lambda: RUN_AT))
    assert kept.read() == "old\n"
    kept.close()
    text = file.read_text()
    assert 'anomaly_runs_total{job="month",state="complete"} 1.0' in text
    assert "\nanomaly_scheduler_leader " not in text  # no scheduler lost its lead here
    assert [path.name for path in file.parent.iterdir()] == ["anomaly.prom"]


def test_a_file_that_cannot_be_written_is_named(fresh, tmp_path):
    nowhere = tmp_path / "nowhere" / "anomaly.prom"
    with pytest.raises(SourceError, match=r"textfile .*nowhere/anomaly.prom: cannot be written"):
        handing.write(nowhere, LedgerCollector(fresh, lambda: RUN_AT))


def test_a_pushgateway_keeps_what_a_job_left(fresh, pushgateway: str):
    publish_month(fresh)
    handing.push(pushgateway, LedgerCollector(fresh, lambda: RUN_AT))
    with urllib.request.urlopen(f"{pushgateway}/metrics") as answer:
        kept = answer.read().decode()
    ours = 'instance="",job="anomaly"'
    assert (
        f'anomaly_runs_total{{exported_job="month",{ours},state="complete"}} 1' in kept
    )  # a job of its own, not the gateway's
    assert f'anomaly_runs_total{{exported_job="ingest",{ours},state="complete"}} 1' in kept


def test_a_gateway_that_is_away_is_named(fresh):
    with pytest.raises(SourceError, match=r"pushgateway http://127.0.0.1:1: did not take"):
        handing.push("http://127.0.0.1:1", LedgerCollector(fresh, lambda: RUN_AT))


def test_a_command_that_ends_hands_its_figures_on(sqlite_url, tmp_path, repository):
    """However it ends: a month without rows is refused."""
    file = tmp_path / "figures.prom"
    schema.upgrade(open_engine(sqlite_url))
    environment = {
        **os.environ,
        "ANOMALY_DATABASE__URL": sqlite_url,
        "ANOMALY_TELEMETRY__TEXTFILE": str(file),
        "ANOMALY_TELEMETRY__PUSHGATEWAY": "http://127.0.0.1:1",
    }
    command = [sys.executable, "-m", "pipelines", "run", "--month", "2026-03"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "figures_not_handed_on" in done.stderr  # the gateway is away, and nothing else failed
    assert "anomaly_database_up 1.0" in file.read_text()


def test_a_file_that_nobody_would_read_is_refused():
    with pytest.raises(SettingsError, match=r"TEXTFILE: \[telemetry\] textfile: .*end in .prom"):
        load(environ={"ANOMALY_TELEMETRY__TEXTFILE": "/tmp/figures.txt"})
