"""Somebody else's database: SQLite and PostgreSQL give the same rows, and are never written to."""

import datetime as dt
import hashlib
import resource

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from anomaly.exceptions import DataError, SettingsError, SourceError
from anomaly.settings import SourceSettings
from anomaly.sources import Checks
from anomaly.sources.database import read_sql

UTC = dt.UTC
START = dt.datetime(2026, 1, 1, tzinfo=UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def source(database_url):
    """Makes tables in somebody else's database."""
    engine = sa.create_engine(database_url)

    def make(columns, rows, name="obs", schema=None):
        metadata = sa.MetaData()
        table = sa.Table(
            name, metadata, *[sa.Column(*pair) for pair in columns.items()], schema=schema
        )
        metadata.create_all(engine)
        with engine.begin() as connection:
            if rows:
                connection.execute(
                    table.insert(), [dict(zip(columns, row, strict=True)) for row in rows]
                )
        return database_url

    yield make
    engine.dispose()


OBSERVATIONS = {
    "user_id": sa.Text,
    "metric": sa.Text,
    "observed_at": sa.DateTime(timezone=True),
    "value": sa.Float,
}


def hourly(hours, user="u", metric="m"):
    return [(user, metric, START + hour * HOUR, float(hour)) for hour in range(hours)]


def read(
    url, since=None, until=None, *, table="obs", checks=None, step=3_600, grid="UTC", **settings
):
    """All rows, and all rejects as reasons."""
    source = SourceSettings(url=url, table=None if "query" in settings else table, **settings)
    batches = list(read_sql(source, since, until, step=step, grid_timezone=grid, checks=checks))
    rows = [tuple(row.values()) for batch in batches for row in batch.table.to_pylist()]
    return sorted(rows), [each.reason for batch in batches for each in batch.rejects]


def test_a_table_is_its_rows(source):
    assert read(source(OBSERVATIONS, hourly(3))) == (hourly(3), [])


def test_only_rows_since_the_watermark_are_read(source):
    url = source(OBSERVATIONS, hourly(72))
    rows, _ = read(url, since=START + 70 * HOUR)
    assert rows == hourly(72)[70:]


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        (sa.DateTime(timezone=False), lambda when: when.replace(tzinfo=None)),
        (sa.BigInteger, lambda when: int(when.timestamp())),
        (sa.BigInteger, lambda when: int(when.timestamp()) * 1_000),
        (sa.Float(53), lambda when: when.timestamp()),
        (sa.Text, lambda when: when.isoformat()),
        (sa.Text, lambda when: when.strftime("%Y-%m-%d %H:%M:%S")),
        (sa.Text, lambda when: when.strftime("%Y-%m-%dT%H:%M:%SZ")),
    ],
    ids=["naive", "seconds", "milliseconds", "fractions", "zoned text", "naive text", "utc text"],
)
def test_times_of_any_kind_are_read_and_bounded(source, kind, write):
    rows = [(user, metric, write(when), value) for user, metric, when, value in hourly(72)]
    url = source(OBSERVATIONS | {"observed_at": kind}, rows)
    assert read(url) == (hourly(72), [])
    assert read(url, since=START + 70 * HOUR) == (hourly(72)[70:], [])


def test_wall_clock_times_are_those_of_the_sources_zone(source):
    summer = dt.datetime(2026, 7, 1, 12)  # noqa: DTZ001 - a wall clock
    url = source(OBSERVATIONS | {"observed_at": sa.DateTime}, [("u", "m", summer, 1.0)])
    instant = dt.datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert read(url, since=instant, timezone="Europe/Berlin")[0] == [("u", "m", instant, 1.0)]
    assert read(url, since=instant + HOUR, timezone="Europe/Berlin")[0] == []


def test_rows_after_until_are_set_aside(source):
    rows, rejects = read(source(OBSERVATIONS, hourly(3)), until=START + HOUR)
    assert (len(rows), rejects) == (2, ["future_time"])


def test_bad_rows_are_set_aside(source):
    url = source(
        OBSERVATIONS,
        [
            (None, "m", START, 1.0),
            ("u", "m", None, 1.0),
            ("u", "m", START, None),
            ("u", "m", START, float("inf")),
            ("u", "m", START, 1e300),
            ("x" * 600, "m", START, 1.0),
            ('it\'s "quoted"\n🦊', "m", START, -1.0),
            ("u", "n", START, -1.0),
            ("u", "n", START, -2.0),
        ],
    )
    rows, rejects = read(url, checks=Checks(counts=frozenset({"m"})))
    assert rows == [("u", "n", START, -1.0)]
    assert sorted(rejects) == [
        "contradicting_duplicate",
        "missing_time",
        "missing_user_id",
        "missing_value",
        "negative_count",
        "not_finite",
        "user_id_too_long",
        "value_too_large",
    ]


def test_columns_are_mapped_and_names_are_only_ever_names(source):
    hostile = 'value"; DROP TABLE "obs'
    columns = {"who is it": sa.Text, "select": sa.DateTime(timezone=True), hostile: sa.Float}
    url = source(columns, [("u", START, 4.0)], name='or\'ders "x"')
    mapping = {"user_id": "who is it", "observed_at": "select", "value": hostile}
    rows, _ = read(url, since=START, table='or\'ders "x"', columns=mapping, metric="sales")
    assert rows == [("u", "sales", START, 4.0)]


def test_a_query_stands_for_a_table(source):
    url = source(OBSERVATIONS, hourly(30) + hourly(30, user="v"))
    query = """
        -- only some: 'quoted' and ::double
        WITH few AS (SELECT * FROM obs WHERE user_id <> 'a:b' AND user_id = 'u')
        SELECT user_id AS who, 'm%' AS metric, observed_at, value FROM few; """
    rows, _ = read(url, since=START + 28 * HOUR, query=query, columns={"user_id": "who"})
    assert rows == hourly(30, metric="m%")[28:]


EVENTS = {"account": sa.Text, "at": sa.DateTime(timezone=True), "bytes": sa.Float}
MAPPING = {"user_id": "account", "observed_at": "at"}
LOGONS = [
    ("u", START + dt.timedelta(minutes=minute), amount)
    for minute, amount in ((0, 5.0), (59, 6.0), (60, 7.0), (150, 8.0))
]


def test_events_are_counted_onto_the_grid(source):
    rows, _ = read(source(EVENTS, LOGONS), events=True, columns=MAPPING, metric="logons")
    assert rows == [
        ("u", "logons", START, 2.0),
        ("u", "logons", START + HOUR, 1.0),
        ("u", "logons", START + 2 * HOUR, 1.0),
    ]


def test_events_with_a_value_are_summed(source):
    mapping = MAPPING | {"value": "bytes"}
    rows, _ = read(source(EVENTS, LOGONS), events=True, columns=mapping, step=86_400)
    assert rows == [("u", "events", START, 26.0)]


def test_a_step_that_goes_on_is_counted_anew_from_its_start(source):
    url = source(EVENTS, LOGONS)
    rows, _ = read(
        url,
        since=START + dt.timedelta(minutes=59),
        until=START + HOUR,
        events=True,
        columns=MAPPING,
    )
    assert rows[0][2:] == (START, 2.0)


def test_events_of_a_local_day_stay_within_it(source):
    # A day in Kolkata begins at 18:30 UTC.
    border = dt.datetime(2026, 1, 1, 18, 30, tzinfo=UTC)
    events = [("u", border - dt.timedelta(minutes=1), 1.0), ("u", border, 1.0)]
    rows, _ = read(
        source(EVENTS, events), events=True, columns=MAPPING, step=86_400, grid="Asia/Kolkata"
    )
    assert [when for _, _, when, _ in rows] == [border - HOUR / 2, border]


def test_events_by_a_wall_clock_are_placed_in_its_zone(source):
    walls = [(user, when.replace(tzinfo=None), amount) for user, when, amount in LOGONS]
    url = source(EVENTS | {"at": sa.DateTime}, walls)
    rows, _ = read(url, events=True, columns=MAPPING, timezone="Europe/Berlin")
    assert [(when, value) for _, _, when, value in rows] == [
        (START - HOUR, 2.0),
        (START, 1.0),
        (START + HOUR, 1.0),
    ]


@pytest.mark.parametrize("per_second", [1, 1_000])
def test_events_by_numbers(source, per_second):
    events = [(user, int(when.timestamp() * per_second), amount) for user, when, amount in LOGONS]
    url = source(EVENTS | {"at": sa.BigInteger}, events)
    rows, _ = read(url, since=START, events=True, columns=MAPPING)
    assert [value for *_, value in rows] == [2.0, 1.0, 1.0]


def test_events_without_a_time_are_set_aside(source):
    rows, rejects = read(source(EVENTS, [*LOGONS, ("u", None, 1.0)]), events=True, columns=MAPPING)
    assert (len(rows), rejects) == (3, ["missing_time"])


def test_an_empty_table_is_no_rows(source):
    url = source(OBSERVATIONS, [])
    assert read(url) == ([], [])
    assert read(url, since=START) == ([], [])
    assert read(url, since=START, events=True) == ([], [])


def test_a_table_without_any_time_is_set_aside(source):
    url = source(OBSERVATIONS, [("u", "m", None, 1.0), ("v", "m", None, 1.0)])
    assert read(url) == ([], ["missing_time"] * 2)
    assert read(url, events=True) == ([], ["missing_time"] * 2)


def test_chunks_are_bounded_and_numbered_on(source):
    url = source(OBSERVATIONS, [*hourly(2_500), ("u", "m", START, None)])
    batches = list(read_sql(SourceSettings(url=url, table="obs", chunk_rows=1_000), None, None))
    assert [batch.read for batch in batches] == [1_000, 1_000, 501]
    assert batches[-1].rejects[0].location == "obs row 2501 as read"


def test_repeats_are_known_across_chunks(source):
    url = source(OBSERVATIONS, hourly(1_500) * 2)
    batches = list(read_sql(SourceSettings(url=url, table="obs", chunk_rows=1_000), None, None))
    assert sum(len(batch.table) for batch in batches) == 1_500
    assert sum(batch.joined for batch in batches) == 1_500


def test_a_missing_table_is_named_with_those_that_are_there(source):
    with pytest.raises(DataError, match=r"nowhere: there is no such table in the source, only obs"):
        read(source(OBSERVATIONS, []), table="nowhere")


def test_a_missing_column_is_named_with_those_that_are_there(source):
    with pytest.raises(DataError, match=r"obs: .*'when', only user_id, metric, observed_at, value"):
        read(source(OBSERVATIONS, []), columns={"observed_at": "when"})


def test_a_table_without_values_asks_for_them(source):
    with pytest.raises(
        DataError, match=r"no column 'value', only user_id, at, bytes.*events = true"
    ):
        read(
            source({"user_id": sa.Text, "at": sa.DateTime, "bytes": sa.Float}, []),
            columns={"observed_at": "at"},
        )


def test_a_query_that_fails_is_an_error_of_the_source(source):
    with pytest.raises(SourceError, match="query and rights"):
        read(source(OBSERVATIONS, []), query="SELECT nothing FROM nowhere")


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM obs RETURNING *", "SELECT * FROM obs; DELETE FROM obs", "DROP TABLE obs"],
)
def test_nothing_is_ever_written(source, query):
    url = source(OBSERVATIONS, hourly(3))
    with pytest.raises(SourceError):
        read(url, query=query)
    assert read(url)[0] == hourly(3)


def test_a_function_that_writes_is_stopped_by_the_read_only_transaction(postgres_url):
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SEQUENCE counter"))
    engine.dispose()
    with pytest.raises(SourceError, match="read-only transaction"):
        read(postgres_url, query="SELECT nextval('counter') AS value, now() AS observed_at")


def test_a_sqlite_source_needs_no_right_to_write(tmp_path):
    file = tmp_path / "theirs" / "a%20b?.db"
    file.parent.mkdir()
    engine = sa.create_engine(sa.engine.URL.create("sqlite", database=str(file)))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE obs (observed_at TEXT, value REAL)"))
        connection.execute(sa.text("INSERT INTO obs VALUES ('2026-01-01', 1)"))
    engine.dispose()
    before = hashlib.sha256(file.read_bytes()).digest()
    file.parent.chmod(0o555)
    url = sa.engine.URL.create("sqlite", database=str(file)).render_as_string()
    assert read(url)[0] == [("obs", "value", START, 1.0)]
    assert hashlib.sha256(file.read_bytes()).digest() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_sqlite_column_of_mixed_types_and_broken_text(sqlite_url):
    engine = sa.create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE obs (user_id, metric, observed_at, value)")
        connection.exec_driver_sql(
            "INSERT INTO obs VALUES (7, 'm', '2026-01-01', '5'), ('u', 'm', '2026-01-01', 6), "
            "(CAST(x'52656ee9' AS TEXT), 'm', '2026-01-01', 1), ('u', 'm', 'soon', 1.5), "
            "('v', 'm', 1767225600, 'much')"
        )
    engine.dispose()
    rows, rejects = read(sqlite_url)
    assert rows == [("7", "m", START, 5.0), ("u", "m", START, 6.0)]
    assert rejects == ["not_utf8", "unreadable_time", "unreadable_value"]


def test_text_cannot_be_counted_by_time_on_postgresql(postgres_url):
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE logons (user_id text, observed_at text)"))
        connection.execute(sa.text("INSERT INTO logons VALUES ('u', '2026-01-01')"))
    engine.dispose()
    with pytest.raises(DataError, match=r"holds text.*casts it"):
        read(postgres_url, table="logons", events=True)


def test_a_table_of_another_schema(postgres_url):
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "Their Data"'))
        connection.execute(
            sa.text('CREATE TABLE "Their Data".obs (observed_at timestamptz, value int)')
        )
        connection.execute(sa.text("INSERT INTO \"Their Data\".obs VALUES ('2026-01-01Z', 3)"))
    engine.dispose()
    assert read(postgres_url, table="Their Data.obs")[0] == [
        ("Their Data.obs", "value", START, 3.0)
    ]
    with pytest.raises(DataError, match="only obs"):
        read(postgres_url, table="Their Data.nowhere")
    with pytest.raises(DataError, match="only none"):
        read(postgres_url, table="nowhere.obs")


def test_a_wrong_password_is_told_without_telling_it(guarded_postgres_url):
    url = (
        make_url(guarded_postgres_url).set(password="hunter2").render_as_string(hide_password=False)
    )
    with pytest.raises(SourceError, match="password") as refused:
        read(url)
    assert "hunter2" not in str(refused.value)


def test_the_password_may_stand_in_a_file(guarded_postgres_url, tmp_path):
    address = make_url(guarded_postgres_url)
    file = tmp_path / "password"
    file.write_text(f"{address.password}\nsecond line\n")
    url = address.set(password=None).render_as_string()
    with pytest.raises(DataError, match="obs: there is no such table"):
        read(url, password_file=file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read(url, password_file=tmp_path / "nothing")


@pytest.mark.parametrize(
    "url", ["postgresql://somebody@127.0.0.1:1/theirs", "sqlite:////nowhere/theirs.db"]
)
def test_a_database_that_is_away_is_named(url):
    with pytest.raises(SourceError, match=r"theirs.*Check \[source\] url"):
        read(url)


@pytest.mark.parametrize("url", ["", "no address", "oracle://host/x", "sqlite://"])
def test_an_address_that_cannot_be_read_is_a_setting(url):
    with pytest.raises(SettingsError, match=r"\[source\] url.*sqlite:///PATH"):
        read(url)


@pytest.mark.parametrize("settings", [{}, {"table": "a", "query": "b"}])
def test_either_a_table_or_a_query_is_set(settings):
    with pytest.raises(SettingsError, match="either table or query"):
        list(read_sql(SourceSettings(url="sqlite:///a.db", **settings), None, None))


@pytest.mark.long
def test_memory_does_not_grow_with_the_table(postgres_url):
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE obs AS SELECT 'u' || n % 100 AS user_id, 'm' AS metric, "
                "timestamptz '2020-01-01Z' + n * interval '1 second' AS observed_at, 1.0 AS value "
                "FROM generate_series(1, 2000000) AS n"
            )
        )
    engine.dispose()
    batches = read_sql(SourceSettings(url=postgres_url, table="obs"), None, None)
    for _ in range(4):
        next(batches)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = sum(len(batch.table) for batch in batches)
    assert rows == 1_600_000
    # 80 MiB: the filter of known keys, and pages of their files that the system may take back.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 * 1_024
