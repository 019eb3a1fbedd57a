"""`anomaly check` on both databases: what it says of a source's newest rows, of clocks, of history."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import replace

import pytest
import sqlalchemy as sa

from anomaly.exceptions import DataError, SettingsError
from anomaly.months import Month
from anomaly.settings import with_values
from pipelines.jobs.check import run_checks
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, make_services

NOW = at("2026-04-10T12:00")
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def services(database_url, tmp_path):
    """A database that is its own source: the table `activity` beside the product's."""
    made = make_services(database_url, tmp_path, Clock(NOW))
    settings = with_values(made.settings, "test", "source", url=database_url, table="activity")
    yield replace(made, settings=settings)
    made.store.close()


def write(url, rows):
    engine = sa.create_engine(url)
    kinds = {"user_id": sa.Text, "metric": sa.Text, "observed_at": sa.DateTime(timezone=True)}
    columns = [sa.Column(name, kind) for name, kind in kinds.items()]
    table = sa.Table("activity", sa.MetaData(), *columns, sa.Column("value", sa.Float))
    with engine.begin() as connection:
        table.create(connection)
        if rows:
            connection.execute(
                table.insert(), [dict(zip(table.c.keys(), row, strict=True)) for row in rows]
            )
    engine.dispose()


def said(services, what):
    (found,) = [check for check in run_checks(lambda: services) if check.what == what]
    assert found.error is None, found.remark
    return found.remark


def test_duplicates_and_bad_rows_of_the_source_are_told_before_they_are_read(
    services, database_url
):
    rows = [("ann", "files", NOW - hour * HOUR, float(hour)) for hour in range(1, 11)]
    again = rows[:3]  # says the same
    against = [("ann", "files", NOW - HOUR, 99.0)]
    ahead = [("ann", "files", NOW + dt.timedelta(days=3), 1.0)]
    write(database_url, rows + again + against + ahead)
    generous = with_values(services.settings, "test", "source", max_rejected=0.2)
    text = said(replace(services, settings=generous), "source")
    assert "15 rows of the last day read" in text
    assert "3 say again what a row before said" in text
    assert "2 would be set aside (" in text
    assert "contradicting_duplicate 1" in text
    assert "future_time 1" in text


def test_a_source_that_a_run_would_refuse_is_refused(services, database_url):
    ahead = [("ann", "files", NOW + dt.timedelta(days=3), 1.0)]
    write(database_url, [("ann", "files", NOW - HOUR, 1.0), *ahead])
    with pytest.raises(AssertionError, match="activity: 1 of 2 rows are bad .future_time: 1"):
        said(services, "source")


def test_a_run_of_a_source_without_rows_says_where_to_look(services, database_url):
    write(database_url, [])
    with pytest.raises(
        DataError, match=r"\[source\] has given none so far. Look at it: anomaly check"
    ):
        run_month(services, Month(2026, 3))


@pytest.mark.parametrize(
    ("module", "section", "values", "told"),
    [
        ("ray", "run", {"engine": "ray"}, 'Ray is not installed. Run: pip install "anomaly.ray."'),
        ("mlflow", "telemetry", {"mlflow": "http://h"}, "pip install 'anomaly.mlflow.'"),
    ],
)
def test_an_extra_that_is_missing_is_told_before_it_is_needed(
    services, monkeypatch, module, section, values, told
):
    monkeypatch.setitem(sys.modules, module, None)
    wanting = replace(services, settings=with_values(services.settings, "test", section, **values))
    with pytest.raises(AssertionError, match=told):
        said(wanting, "settings")


@pytest.mark.parametrize("country", ["de", "Germania", ""])
def test_a_country_that_is_none_is_refused_by_the_check_and_by_a_run(services, country):
    services.store.observations.write(behaviour("2026-01", "2026-03", users=4), "t")
    wrong = with_values(services.settings, "test", "calendar", country=country)
    told = f"country = '{country}' is no country, .* Use an ISO code of two letters such as DE"
    with pytest.raises(AssertionError, match=told):
        said(replace(services, settings=wrong), "settings")
    by_import = with_values(wrong, "test", "source", url=None, table=None)
    with pytest.raises(SettingsError, match=told):
        run_month(replace(services, settings=by_import), Month(2026, 3))


@pytest.mark.parametrize("country", ["DE", "DEU", None])
def test_a_country_is_taken_by_its_code(services, country):
    known = with_values(services.settings, "test", "calendar", country=country)
    assert said(replace(services, settings=known), "settings") == "read and understood"


REFUSED_LATER = {
    "model": {"bidirectional": True, "objective": "forecast"},
    "retention": {"observations_months": 3},
    "web": {"authentication": "none", "host": "0.0.0.0"},
    "notify": {"urls": ["nonsense"]},
    "schedule": {"train": "jan 2 * * *"},
}


def test_all_that_later_commands_refuse_of_the_settings_is_told_at_once(services):
    settings = services.settings
    for section, values in REFUSED_LATER.items():
        settings = with_values(settings, "test", section, **values)
    checks = run_checks(lambda: replace(services, settings=settings))
    found = [check for check in checks if check.what == "settings"]
    assert {type(check.error) for check in found} == {SettingsError}
    assert sorted(check.remark.split("]")[0] for check in found) == [
        "[model", "[notify", "[retention", "[schedule", "[web",
    ]  # fmt: skip


def test_a_calendar_that_is_not_there_is_told_before_it_is_read(services, database_url):
    write(database_url, [("ann", "files", NOW - HOUR, 1.0)])
    wrong = with_values(services.settings, "test", "source", calendar_table="nope")
    with pytest.raises(AssertionError, match="nope: there is no such table"):
        said(replace(services, settings=wrong), "calendar")
    query = "SELECT 'leave' AS kind, '2026-03-02' AS start"
    right = with_values(services.settings, "test", "source", calendar_query=query)
    assert said(replace(services, settings=right), "calendar").endswith(": 1 event read")
    assert said(services, "calendar").startswith("none in the source")


def test_a_run_on_ray_without_ray_trains_nothing_first(services, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    services.store.observations.write(behaviour("2026-01", "2026-03", users=4), "t")
    on_ray = with_values(services.settings, "test", "run", engine="ray")
    with pytest.raises(SettingsError, match="Ray is not installed"):
        run_month(replace(services, settings=on_ray), Month(2026, 3))
    assert services.store.models.list() == []


def test_a_clean_source_is_told_in_one_phrase(services, database_url):
    write(database_url, [("ann", "files", NOW - HOUR, 1.0)])
    assert said(services, "source").endswith(": 1 row of the last day read")


def test_a_source_that_has_gone_silent_is_told(services, database_url):
    write(database_url, [("ann", "files", NOW - dt.timedelta(days=9), 1.0)])
    assert "1 row of the last 31 days read; none of the last day" in said(services, "source")


def test_a_source_without_recent_rows_is_told(services, database_url):
    write(database_url, [])
    assert "it answers; no rows in the last 31 days" in said(services, "source")


@pytest.mark.parametrize(
    ("off", "told"), [(120, "behind this machine"), (-120, "ahead of this machine"), (0, "agree")]
)
def test_clocks_that_differ_from_the_databases_are_told(services, database_url, off, told):
    write(database_url, [])

    def clock():
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=off)

    database, source = said(replace(services, clock=clock), "clocks").split("; ")
    assert database.startswith("the database")
    assert source.startswith("the source")
    assert told in database
    assert told in source
    assert not off or " is 1" in database  # some 120 seconds


def test_history_and_who_is_new_are_told(services, database_url):
    write(database_url, [])
    rows = behaviour("2026-01", "2026-04", users=4)
    late = behaviour("2026-04", "2026-04", users=6)
    services.store.observations.write(rows, "t")
    services.store.observations.write(late, "t")
    months = services.settings.model.history_months
    assert f"4 months, 2026-01 to 2026-04; a model learns from up to {months}." in said(
        services, "history"
    )
    assert "2 first seen in it" in said(services, "newest month")
