"""Sources that change overnight: their columns' types, their clock, and what they send twice or late."""

import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from anomaly.months import Month
from anomaly.settings import Settings
from pipelines.jobs.ingest import ingest_file, ingest_source
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services
from tests.fixtures.tally import compared

MONTH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}


@pytest.fixture
def clock():
    return Clock(at("2026-04-20T00:00"))


@pytest.fixture
def services(sqlite_url, tmp_path, clock):
    made = make_services(sqlite_url, tmp_path, clock)
    yield made
    made.store.close()


def held(services) -> list[tuple]:
    """Every observation."""
    tables = services.store.observations.read(at("1970-01-01T00:00"), at("2200-01-01T00:00"))
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def written(table: pa.Table, path):
    parquet.write_table(table, path)
    return path


def as_type(table: pa.Table, column: str, convert) -> pa.Table:
    place = table.schema.get_field_index(column)
    return table.set_column(place, column, convert(table[column].combine_chunks()))


def seconds(times: pa.Array) -> pa.Array:
    return pc.divide(times.cast(pa.int64()), 1_000_000)


NEW_TYPES = {
    "numbers as text": ("value", lambda column: column.cast(pa.string())),
    "whole numbers": ("value", lambda column: column.cast(pa.int64())),
    "decimals": ("value", lambda column: column.cast(pa.decimal128(20, 4))),
    "float32": ("value", lambda column: column.cast(pa.float32())),
    "times as text": ("observed_at", lambda column: pc.strftime(column, "%Y-%m-%dT%H:%M:%SZ")),
    "times in seconds": ("observed_at", seconds),
    "times in milliseconds": ("observed_at", lambda c: pc.divide(c.cast(pa.int64()), 1_000)),
    "times without a zone": ("observed_at", lambda column: column.cast(pa.timestamp("ns"))),
    "names as a dictionary": ("user_id", lambda column: column.dictionary_encode()),
    "names as large text": ("user_id", lambda column: column.cast(pa.large_string())),
}


@pytest.mark.parametrize("change", NEW_TYPES)
def test_a_column_of_another_type_overnight_is_read_as_what_it_says(services, tmp_path, change):
    table = behaviour("2026-01", "2026-03", users=2)
    night = pa.scalar(at("2026-03-15T00:00"), table["observed_at"].type)
    before = table.filter(pc.less(table["observed_at"], night))
    after = table.filter(pc.greater_equal(table["observed_at"], night))
    ingest_file(services, written(before, tmp_path / "before.parquet"))
    told = ingest_file(
        services, written(as_type(after, *NEW_TYPES[change]), tmp_path / "after.parquet")
    )
    assert (told.tally.rejected, told.inserted) == (0, len(after))
    assert compared([tuple(row.values()) for row in table.to_pylist()], held(services)) == (0, 0)


@pytest.fixture
def source(tmp_path):
    """Somebody's database whose columns hold anything."""
    url = f"sqlite:///{tmp_path / 'source.db'}"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE obs (user_id, metric, observed_at, value)")

    def send(rows) -> str:
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO obs VALUES (?, ?, ?, ?)", rows)
        return url

    yield send
    engine.dispose()


def reading(url, source_url, tmp_path, clock):
    """Services that read a table."""
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "source": {"url": source_url, "table": "obs", "max_rejected": 0.5},
            "run": {"workers": 1},
        }
    )
    return make_services(url, tmp_path, clock, settings)


def test_a_tables_columns_may_change_from_numbers_to_text(source, sqlite_url, tmp_path, clock):
    url = source([("u1", "files", "2026-03-10T10:00:00Z", 3.0)])
    services = reading(sqlite_url, url, tmp_path, clock)
    ingest_source(services)
    source([("u1", "files", "2026-03-10T11:00:00Z", "4")])
    source([("u1", "files", "2026-03-10 12:00:00+00:00", 5)])
    source([("u1", "files", "2026-03-10T13:00:00Z", "six")])
    told = ingest_source(services)
    assert (told.inserted, dict(told.tally.reasons)) == (2, {"unreadable_value": 1})
    assert [row[3] for row in held(services)] == [3.0, 4.0, 5.0]
    services.store.close()


def test_a_source_whose_clock_jumps_ahead_and_back_loses_nothing(
    source, sqlite_url, tmp_path, clock
):
    clock.now = at("2026-03-10T12:00")
    url = source([("u1", "files", "2026-03-10T10:00:00Z", 1.0)])
    services = reading(sqlite_url, url, tmp_path, clock)
    ingest_source(services)
    source([("u1", "files", "2027-03-10T10:00:00Z", 2.0)])  # its clock is a year ahead
    assert dict(ingest_source(services).tally.reasons) == {"future_time": 1}
    source([("u1", "files", "2026-03-10T11:00:00Z", 3.0)])  # and is right again
    source([("u1", "files", "2026-03-09T23:30:00Z", 4.0)])  # and half a day behind
    ingest_source(services)
    assert sorted(row[3] for row in held(services)) == [1.0, 3.0, 4.0]
    clock.now += dt.timedelta(days=1)
    ingest_source(services)
    assert sorted(row[3] for row in held(services)) == [1.0, 3.0, 4.0]
    services.store.close()


def test_a_month_sent_twice_is_one_month(services, tmp_path):
    table = behaviour("2026-01", "2026-03", peaks=PEAKS)
    path = written(table, tmp_path / "march.parquet")
    ingest_file(services, path)
    flags = run_month(services, MONTH).flags
    expected = exported(services, str(MONTH))
    again = ingest_file(services, path)
    assert (again.inserted, again.corrected, again.unchanged) == (0, 0, len(table))
    twice = ingest_file(services, written(pa.concat_tables([table] * 2), tmp_path / "two.parquet"))
    assert (twice.inserted, twice.corrected, twice.tally.joined) == (0, 0, len(table))
    assert run_month(services, MONTH).note.endswith("nothing changed")
    assert compared(expected, exported(services, str(MONTH))) == (0, 0)
    assert len(flags) == len(expected) > 0


def test_a_month_that_comes_a_year_late_changes_no_published_flag(services, tmp_path):
    ingest_file(services, written(behaviour("2026-01", "2026-03", peaks=PEAKS), tmp_path / "a"))
    run_month(services, MONTH)
    expected = exported(services, str(MONTH))
    late = behaviour("2025-03", "2025-03")
    told = ingest_file(services, written(late, tmp_path / "b"))
    assert told.inserted == len(late)
    assert compared(expected, exported(services, str(MONTH))) == (0, 0)
    assert run_month(services, MONTH).state == "complete"
    assert compared(expected, exported(services, str(MONTH))) == (0, 0)
