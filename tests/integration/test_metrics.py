"""/metrics: names, what survives, and what a scrape says when the database is away."""

import datetime as dt
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from anomaly.store import Store, open_engine, schema
from anomaly.telemetry.collector import build_registry, source_label
from tests.factories import MONTH, MONTH_START, NASTY_NAMES, RUN_AT, publish_month

NAMES = (
    "anomaly_runs_total",
    "anomaly_run_duration_seconds",
    "anomaly_run_last_success_timestamp_seconds",
    "anomaly_month_state",
    "anomaly_rows_read_total",
    "anomaly_rows_rejected_total",
    "anomaly_users_scored_total",
    "anomaly_users_skipped_total",
    "anomaly_source_watermark_timestamp_seconds",
    "anomaly_flags_total",
    "anomaly_flags_per_thousand_user_months",
    "anomaly_model_info",
    "anomaly_model_trained_timestamp_seconds",
    "anomaly_model_validation_loss",
    "anomaly_calibration_error",
    "anomaly_flag_precision",
    "anomaly_jobs_missed_total",
    "anomaly_scheduler_leader",
    "anomaly_notifications_total",
    "anomaly_build_info",
    "anomaly_database_up",
)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    engine = open_engine(database_url)
    schema.upgrade(engine)
    store = Store(engine, retries=0)
    yield store
    store.close()


def registry(store: Store) -> CollectorRegistry:
    return build_registry(store, lambda: True)


def scraped(store: Store) -> str:
    return generate_latest(registry(store)).decode()


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
    store.flags.label(real, "real", "", "ann", RUN_AT)
    for flag_id in false:
        store.flags.label(flag_id, "false", "", "ann", RUN_AT)
    assert value(store, "anomaly_flag_precision") == 0.25


def test_missed_jobs_are_counted(store):
    store.ledger.missed("score", RUN_AT, RUN_AT + dt.timedelta(hours=6))
    assert value(store, "anomaly_jobs_missed_total", job="score") == 1


def test_no_user_is_named(store):
    publish_month(store)
    text = scraped(store)
    assert "u007" not in text
    assert "<script>" not in text
    assert "boss" not in text


def test_files_share_a_label():
    # A file of one user's series is named after the user.
    assert source_label("u007.csv") == "file"
    assert source_label("warehouse:behaviour") == "warehouse:behaviour"


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
