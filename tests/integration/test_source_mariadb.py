"""MariaDB as somebody else's database: the same rows as from the others, and nothing written."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from anomaly.exceptions import DataError, SourceError
from anomaly.settings import SourceSettings
from anomaly.sources.database import _mysql_engine, read_sql

UTC = dt.UTC
START = dt.datetime(2026, 1, 1, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def source(mariadb_url) -> str:
    """Three days of two people by the hour, and the same as events of twenty minutes."""
    engine = sa.create_engine(mariadb_url)
    rows = [
        {"who": who, "what": "logons", "at": (START + hour * HOUR).replace(tzinfo=None), "n": hour}
        for who in ("ada", "bøb")
        for hour in range(72)
    ]
    with engine.begin() as connection:
        for name in ("hourly", "events"):
            connection.execute(
                sa.text(
                    f"CREATE TABLE {name} (who VARCHAR(40), what VARCHAR(40), at DATETIME, n INT)"
                )
            )
        put = "INSERT INTO {} VALUES (:who, :what, :at, :n)"
        connection.execute(sa.text(put.format("hourly")), rows)
        events = [
            {**row, "at": row["at"] + dt.timedelta(minutes=part)}
            for row in rows
            for part in (0, 20, 40)
        ]
        connection.execute(sa.text(put.format("events")), events)
    engine.dispose()
    return mariadb_url


COLUMNS = {"user_id": "who", "metric": "what", "observed_at": "at", "value": "n"}


def read(url, since=None, columns=COLUMNS, **settings):
    found = SourceSettings(url=url, columns=columns, chunk_rows=1_000, **settings)
    batches = list(read_sql(found, since, None))
    assert not [reject for batch in batches for reject in batch.rejects]
    return sorted(tuple(row.values()) for batch in batches for row in batch.table.to_pylist())


def test_a_table_is_its_rows_and_what_is_new_is_read_alone(source):
    rows = read(source, table="hourly")
    assert len(rows) == 144
    assert rows[5] == ("ada", "logons", START + 5 * HOUR, 5.0)
    assert {row[0] for row in rows} == {"ada", "bøb"}
    assert (
        min(row[2] for row in read(source, START + 70 * HOUR, table="hourly")) == START + 70 * HOUR
    )


def test_wall_clock_times_are_those_of_the_sources_zone(source):
    assert read(source, table="hourly", timezone="Europe/Berlin")[0][2] == START - HOUR


def test_events_are_counted_and_summed_by_the_database(source):
    plain = {name: column for name, column in COLUMNS.items() if name != "value"}
    counted = read(source, columns=plain, table="events", events=True)
    assert len(counted) == 144
    assert {row[3] for row in counted} == {3.0}
    summed = read(source, table="events", events=True)
    assert summed[5] == ("ada", "logons", START + 5 * HOUR, 15.0)


def test_a_query_is_read_like_a_table(source):
    query = "SELECT who AS user_id, what AS metric, at AS observed_at, n AS value FROM hourly WHERE who = 'ada'"
    assert len(read(source, columns={}, query=query)) == 72


def test_the_session_cannot_write(source):
    engine = _mysql_engine(sa.make_url(source))
    with engine.connect() as ours, pytest.raises(sa.exc.OperationalError, match="READ ONLY"):
        ours.execute(sa.text("DELETE FROM hourly"))


def test_what_is_wrong_is_said_without_the_password(source):
    with pytest.raises(DataError, match="no such table in the source, only events, hourly"):
        read(source, table="nowhere")
    with pytest.raises(SourceError, match="Check .source. url") as refused:
        read(source.replace("root@", "nobody:secret@"), table="hourly")
    assert "secret" not in str(refused.value)
