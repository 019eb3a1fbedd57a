"""Users who are younger than the model, or of whom little is kept, are rebuilt like all others."""

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from anomaly.feedback import Label, Terms
from anomaly.months import Month
from anomaly.rows import SCHEMA
from anomaly.settings import Settings, with_values
from anomaly.store import FlagFilter
from pipelines.jobs.ingest import ingest_file
from pipelines.jobs.month import run_month
from pipelines.schedule import do_job
from pipelines.services import core_engine
from tests.fixtures.jobs import Clock, at, behaviour, make_services

MARCH = Month(2026, 3)
MODEL = {"cell": "none", "history_months": 2, "retrain_months": 3}  # the engine without a network


@pytest.fixture
def services(sqlite_url, tmp_path):
    return services_at(sqlite_url, tmp_path)


def services_at(url, folder):
    """The engine itself, on the day on which a model is due."""
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "grid": {"step": "6h"},
            "run": {"workers": 1, "attempts": 1},
            "model": MODEL,
        }
    )
    made = make_services(url, folder, Clock(at("2026-03-01T02:00")), settings)
    return replace(made, engine=core_engine)


def with_settings(services, section, **values):
    return replace(services, settings=with_values(services.settings, "test", section, **values))


def train(services):
    assert [line.endswith("trained") for line in do_job(services, "train", None)] == [True]


def score_on(services, *days):
    """What each night's scoring says."""
    lines = []
    for day in days:
        services.clock.now = at(f"{day}T08:30")
        lines += do_job(services, "score", None)
    return lines


def months_of(services, month):
    return [row.user_month for row in services.store.flags.user_months(month)]


def without_early(rows, user, since):
    """The rows but those of the user before then."""
    first = pa.scalar(at(since), SCHEMA.field("observed_at").type)
    return rows.filter(
        pc.or_(pc.not_equal(rows["user_id"], user), pc.greater_equal(rows["observed_at"], first))
    )


def test_a_newcomer_alone_in_a_shard_is_scored_as_among_others(tmp_path):
    rows = without_early(behaviour("2026-01", "2026-03", users=8), "u7", "2026-02-10")
    found = []
    for shard_users in (7, 8):
        made = services_at(f"sqlite:///{tmp_path}/{shard_users}.db", tmp_path)
        made.store.observations.write(rows, "test")
        made.clock.now = at("2026-04-05T08:30")
        outcome = run_month(with_settings(made, "run", shard_users=shard_users), MARCH)
        assert (outcome.state, outcome.users_scored) == ("complete", 8)
        found.append(months_of(made, "2026-03"))
    assert found[0] == found[1]


def test_a_new_normal_is_rebuilt_from_its_day_on(services):
    peak = {("u1", "2026-04-12T12:00"): 400.0}
    services.store.observations.write(behaviour("2026-01", "2026-05", users=8, peaks=peak), "test")
    train(services)
    score_on(services, "2026-04-05", "2026-05-05")
    flag = services.store.flags.select(FlagFilter(month="2026-04", user="u1"))[0].flag
    label = [Label(flag.flag_id, "new_normal", "analyst")]
    services.store.feedback.label(label, Terms(0.1, dt.timedelta(days=180)), services.clock())
    assert any("2026-05 provisional" in line for line in score_on(services, "2026-05-06"))
    assert {person.skipped for person in months_of(services, "2026-05")} == {None}


@pytest.mark.parametrize("late", [None, "u0"])
def test_history_that_is_no_longer_kept_stops_no_later_month(services, tmp_path, late):
    services = with_settings(services, "retention", observations_months=2)
    rows = behaviour("2026-01", "2026-05", users=8)
    services.store.observations.write(rows, "test")
    train(services)
    score_on(services, "2026-04-05", "2026-05-05")  # on which January to February have gone
    if late is not None:
        row = behaviour("2026-05", "2026-05", users=0, peaks={(late, "2026-05-02T12:00"): 60.0})
        pq.write_table(row, tmp_path / "late.parquet")
        ingest_file(services, tmp_path / "late.parquet")
    lines = score_on(services, "2026-05-06", "2026-06-05")
    assert [line.split(":")[0] for line in lines if "2026-05" in line]
    assert services.store.ledger.current("2026-05").state == "complete"
    assert {person.skipped for person in months_of(services, "2026-05")} == {None}
