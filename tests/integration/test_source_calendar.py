"""Events that stand in a table of somebody else's database."""

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from anomaly.exceptions import DataError, SettingsError
from anomaly.settings import Settings, SourceSettings
from anomaly.sources.database import read_events
from anomaly.store import EventRow
from pipelines.exclusive import exclusive
from pipelines.jobs.events import enter
from pipelines.jobs.ingest import ingest_source
from pipelines.jobs.month import run_month
from tests.fixtures.closing import MARCH, PEAKS
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services

METADATA = sa.MetaData()
OBSERVATIONS = sa.Table(
    "obs", METADATA, sa.Column("user_id", sa.Text), sa.Column("metric", sa.Text),
    sa.Column("observed_at", sa.DateTime(timezone=True)), sa.Column("value", sa.Float),
)  # fmt: skip
ABSENCES = sa.Table(
    "absences", METADATA, sa.Column("kind", sa.Text), sa.Column("start", sa.Date),
    sa.Column("end", sa.Date), sa.Column("user_id", sa.Text), sa.Column("why", sa.Text),
)  # fmt: skip


def day(text):
    return dt.date.fromisoformat(text)


def away(kind, start, end, user):
    return {"kind": kind, "start": day(start), "end": end and day(end), "user_id": user, "why": "x"}


LEAVE = away("announced", "2026-03-10", "2026-03-14", "u2")


@pytest.fixture
def source(database_url):
    """Somebody else's database; gives its address, and what puts absences into it in place of others."""
    engine = sa.create_engine(database_url)
    METADATA.create_all(engine)

    def put(*rows):
        with engine.begin() as connection:
            connection.execute(ABSENCES.delete())
            if rows:
                connection.execute(ABSENCES.insert(), list(rows))

    with engine.begin() as connection:
        rows = behaviour("2026-01", "2026-03", users=3, peaks=PEAKS).to_pylist()
        connection.execute(OBSERVATIONS.insert(), rows)
    yield database_url, put
    METADATA.drop_all(engine)
    engine.dispose()


@pytest.fixture
def services(source, tmp_path):
    url, _ = source
    settings = Settings.model_validate({
        "database": {"url": f"sqlite:///{tmp_path}/own.db"},
        "run": {"workers": 1},
        "source": {"url": url, "table": "obs", "calendar_table": "absences"},
    })  # fmt: skip
    clock = Clock(at("2026-04-20T00:00"))
    return make_services(f"sqlite:///{tmp_path}/own.db", tmp_path, clock, settings)


def ingest(services):
    with exclusive(services):
        ingest_source(services)
    services.clock.sleep(3_600)


def calendar(services):
    return [(event.kind, event.start, event.user_id) for event in services.store.events.read()]


def test_the_table_is_read_with_the_source(source, services):
    _, put = source
    put(LEAVE, away("payday", "2026-03-31", None, None))
    ingest(services)
    assert calendar(services) == [
        ("announced", at("2026-03-10T00:00"), "u2"), ("payday", at("2026-03-31T00:00"), None),
    ]  # fmt: skip
    assert services.store.events.read()[1].end == at("2026-04-01T00:00")
    assert {entry.author for entry in services.store.events.list()} == {"calendar of [source]"}


def test_what_the_table_no_longer_has_is_withdrawn_and_what_others_said_stays(source, services):
    _, put = source
    ours = EventRow("announced", at("2026-03-01T00:00"), at("2026-03-02T00:00"), "Move")
    with exclusive(services):
        enter(services, [ours], "dana")
    put(LEAVE)
    ingest(services)
    put()
    ingest(services)
    assert services.store.events.read() == [ours]
    put(LEAVE)
    ingest(services)
    assert len(calendar(services)) == 2


def test_a_row_that_comes_late_reopens_its_month(source, services):
    _, put = source
    run_month(services, MARCH)
    assert {row["user_id"] for row in exported(services, "2026-03")} == {"u2"}
    put(LEAVE)
    services.clock.sleep(3_600)
    ingest(services)
    assert services.store.late.waiting() == {"2026-03": 1}
    assert "flags: 1 went" in run_month(services, MARCH).note


def test_bad_rows_are_set_aside_and_overlapping_ones_are_taken(source, services):
    _, put = source
    put(
        LEAVE,
        away("announced", "2026-03-13", "2026-03-20", "u2"),
        away("party", "2026-03-01", None, None),
        away("leave", "2026-03-01", "9999-01-01", "u1"),
    )
    ingest(services)
    assert len(calendar(services)) == 2
    rows = services.store.rejects.list()
    assert {(row.reason, row.source) for row in rows} == {
        ("unreadable_event", "calendar of [source]")
    }
    said = " ".join(row.text for row in rows)
    assert "absences row 3, column kind: 'party' is no kind" in said
    assert "absences row 4: leave of u1 from 2026-03-01 00:00" in said
    assert "lasts longer than a year" in said


def test_a_query_gives_the_columns_their_names(source):
    url, put = source
    put(LEAVE)
    query = "SELECT kind, start, user_id AS cohort, why AS name FROM absences"
    (cells,) = read_events(SourceSettings(url=url, table="obs", calendar_query=query))
    assert {name: cell.text for name, cell in cells.items()} == {
        "kind": "announced", "start": "2026-03-10", "name": "x", "cohort": "u2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"calendar_table": "obs"},
            DataError,
            "obs: there is no column 'kind', only user_id, metric",
        ),
        ({"calendar_table": "leave"}, DataError, "leave: there is no such table in the source"),
        ({"calendar_table": "a", "calendar_query": "b"}, SettingsError, "set either"),
    ],
)
def test_what_cannot_be_read_is_refused(source, settings, error, message):
    url, _ = source
    with pytest.raises(error, match=message):
        list(read_events(SourceSettings(url=url, table="obs", **settings)))


def test_a_calendar_needs_a_database(services, tmp_path):
    source = SourceSettings(path=str(tmp_path), calendar_table="absences")
    settings = services.settings.model_copy(update={"source": source})
    with pytest.raises(SettingsError, match="there is none. Import a file instead"):
        ingest(replace(services, settings=settings))
