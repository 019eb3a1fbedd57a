import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from anomaly.exceptions import DataError
from anomaly.rows import LONGEST_NAME, SCHEMA
from anomaly.store import Store, Written, observations, postgres, sqlite
from tests.contracts.conftest import observed, opened

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
ODD_NAMES = (
    "o'brien",
    'say "hi"',
    "two\nlines\r\n",
    "comma,semicolon;tab\t",
    "back\\slash \\.",
    "\\N",
    "🦉 ünïcode",
    "%s :name ?1 {}",
    " space ",
    "NULL",
    "é" * (LONGEST_NAME // 2),
)


def everything(store: Store) -> list[tuple[object, ...]]:
    tables = list(store.observations.read())
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def test_what_is_written_is_read_in_key_order(store):
    rows = [
        ("b", "y", T0, 1.5),
        ("a", "y", T0 + HOUR, 2.0),
        ("a", "z", T0, 3.0),
        ("a", "x", T0 + HOUR, 4.0),
    ]
    assert store.observations.write(observed(*rows), "test") == Written(4, 0, 0)
    assert everything(store) == [rows[2], rows[3], rows[1], rows[0]]
    (table,) = store.observations.read()
    assert table.schema.equals(SCHEMA)


def test_equal_rows_change_nothing_and_others_correct(store):
    store.observations.write(observed(("a", "x", T0, 1.0), ("a", "x", T0 + HOUR, 2.0)), "test")
    again = observed(
        ("a", "x", T0, 1.0), ("a", "x", T0 + HOUR, 9.0), ("a", "x", T0 + 2 * HOUR, 3.0)
    )
    assert store.observations.write(again, "test") == Written(1, 1, 1)
    assert [row[3] for row in everything(store)] == [1.0, 9.0, 3.0]


def test_of_a_key_given_twice_the_later_row_counts(store):
    twice = observed(("a", "x", T0, 1.0), ("b", "x", T0, 5.0), ("a", "x", T0, 2.0))
    assert store.observations.write(twice, "test") == Written(2, 0, 0)
    assert everything(store) == [("a", "x", T0, 2.0), ("b", "x", T0, 5.0)]


def test_odd_names_come_back_as_they_went(store):
    rows = [(name, f"m {name}"[:200], T0, float(n)) for n, name in enumerate(ODD_NAMES)]
    store.observations.write(observed(*rows), "test")
    assert sorted(everything(store)) == sorted(rows)
    in_bytes = sorted(ODD_NAMES, key=str.encode)
    assert store.observations.users() == in_bytes
    assert list(store.observations.first_seen(ODD_NAMES)) == list(ODD_NAMES)
    (table,) = store.observations.read(users=ODD_NAMES)
    assert table["user_id"].to_pylist() == in_bytes


def test_names_sort_by_bytes_whatever_the_language(store):
    names = ["b", "B", "a", "A", "_", "ä", "Z", "z", "10", "9"]
    store.observations.write(observed(*((name, "m", T0, 1.0) for name in names)), "test")
    assert store.observations.users() == sorted(names, key=str.encode)
    assert [row[0] for row in everything(store)] == sorted(names, key=str.encode)


VALUES = (0.1, 1 / 3, 5e-324, 1e300, -1e300, 123456789.123456789, 2.0**53 + 2, 1e-7)


def test_values_and_times_keep_every_bit(store):
    times = [T0 + dt.timedelta(microseconds=7 * n) for n in range(len(VALUES))]
    rows = [("a", "x", time, value) for time, value in zip(times, VALUES, strict=True)]
    store.observations.write(observed(*rows), "test")
    assert everything(store) == rows


def test_whole_seconds_and_fractions_sort_by_time(store):
    times = [T0, T0 + dt.timedelta(microseconds=1), T0 + dt.timedelta(seconds=1)]
    store.observations.write(observed(*(("a", "x", time, 1.0) for time in times)), "test")
    assert [row[2] for row in everything(store)] == times
    assert store.observations.count(T0 + dt.timedelta(microseconds=1)) == 2


def test_negative_zero_is_zero(store):
    store.observations.write(observed(("a", "x", T0, -0.0)), "test")
    assert str(everything(store)[0][3]) == "0.0"


def test_other_zones_and_units_are_the_same_instant(store):
    zone = pa.timestamp("ms", tz="Europe/Berlin")
    table = observed(("a", "x", T0, 1.0))
    table = table.set_column(2, "observed_at", table["observed_at"].cast(zone))
    store.observations.write(table, "test")
    assert everything(store) == [("a", "x", T0, 1.0)]


def test_a_stretch_of_time_and_some_users(store):
    rows = [(user, "x", T0 + n * HOUR, float(n)) for user in "abc" for n in range(10)]
    store.observations.write(observed(*rows), "test")
    (table,) = store.observations.read(T0 + 2 * HOUR, T0 + 4 * HOUR, ["c", "a", "nobody", "a"])
    assert table["user_id"].to_pylist() == ["a", "a", "c", "c"]
    assert table["value"].to_pylist() == [2.0, 3.0, 2.0, 3.0]
    assert store.observations.count(T0 + 2 * HOUR, T0 + 4 * HOUR) == 6
    assert list(store.observations.read(users=[])) == []
    assert list(store.observations.read(T0 - HOUR, T0)) == []


def test_first_and_last(store):
    rows = [("a", "x", T0, 1.0), ("a", "y", T0 + 2 * HOUR, 1.0), ("b", "x", T0 + HOUR, 1.0)]
    store.observations.write(observed(*rows), "test")
    assert store.observations.first_seen() == {"a": T0, "b": T0 + HOUR}
    assert store.observations.last_seen() == {"a": T0 + 2 * HOUR, "b": T0 + HOUR}
    assert store.observations.last_seen(before=T0 + HOUR) == {"a": T0}
    assert store.observations.first_seen(["b", "nobody"]) == {"b": T0 + HOUR}
    assert store.observations.span() == (T0, T0 + 2 * HOUR)


def test_a_metric_is_not_known_before_its_first_row(store):
    store.observations.write(
        observed(("a", "old", T0 + HOUR, 1.0), ("a", "new", T0 + 5 * HOUR, 1.0)), "t"
    )
    store.observations.write(observed(("b", "old", T0, 1.0), ("b", "old", T0 + 9 * HOUR, 1.0)), "t")
    assert store.observations.metrics() == ["new", "old"]
    assert store.observations.metrics(before=T0 + HOUR) == ["old"]
    assert store.observations.metrics(before=T0) == []


def test_an_empty_store(store):
    assert store.observations.write(observed(), "test") == Written(0, 0, 0)
    assert everything(store) == []
    assert store.observations.users() == []
    assert store.observations.metrics() == []
    assert store.observations.span() is None
    assert store.observations.count() == 0
    assert store.observations.last_seen() == {}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", "x", T0, float("nan")), "not finite in 1 rows"),
        (("a", "x", T0, float("-inf")), "not finite in 1 rows"),
        (("a", "x", T0, None), "value is null in 1 rows"),
        (("a", None, T0, 1.0), "metric is null"),
        (("", "x", T0, 1.0), "user_id is empty"),
        (("nul\0", "x", T0, 1.0), "user_id holds a NUL"),
        (("é" * 257, "x", T0, 1.0), "user_id is 514 bytes long, at most 512"),
        (("a", "m" * 513, T0, 1.0), "metric is 513 bytes long"),
    ],
)
def test_what_cannot_be_stored_is_refused_whole(store, row, said):
    with pytest.raises(DataError, match=rf"^oct\.csv: .*{said}"):
        store.observations.write(observed(("fine", "x", T0, 1.0), row), "oct.csv")
    assert everything(store) == []


def test_missing_columns_and_naive_times_are_refused(store):
    table = observed(("a", "x", T0, 1.0))
    with pytest.raises(DataError, match=r"column 'metric' is missing"):
        store.observations.write(table.drop_columns(["metric"]), "test")
    naive = table.set_column(2, "observed_at", table["observed_at"].cast(pa.timestamp("us")))
    with pytest.raises(DataError, match=r"must be a timestamp with a zone"):
        store.observations.write(naive, "test")


@pytest.mark.parametrize("value", ["'NaN'", "'Infinity'", "-1.8e308"])
def test_the_table_itself_refuses_what_is_not_finite(store, value):
    engine = store._database.engine
    statement = text(
        f"INSERT INTO observations VALUES ('a', '2026-01-01T00:00:00+00:00', 'x', {value})"
    )
    with (
        pytest.raises(Exception, match=r"(?i)constraint|cannot store|out of range"),
        engine.begin() as c,
    ):
        c.execute(statement)


def test_nothing_stays_of_a_write_that_fails_midway(store, monkeypatch):
    monkeypatch.setattr(observations.Sorted, "first_seen", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.observations.write(observed(("a", "x", T0, 1.0)), "test")
    assert everything(store) == []


def test_reading_sees_one_state_while_others_write(store, monkeypatch):
    monkeypatch.setattr(sqlite, "TABLE_ROWS", 500)
    monkeypatch.setattr(postgres, "TABLE_BYTES", 4_096)
    rows = [(f"u{n:02d}", "x", T0 + h * HOUR, 1.0) for n in range(20) for h in range(200)]
    store.observations.write(observed(*rows), "test")
    reading = store.observations.read()
    first = next(reading)
    store.observations.write(observed(("z", "x", T0, 1.0)), "test")
    rest = list(reading)
    assert rest, "the rows must not fit in one table, or this shows nothing"
    assert len(first) + sum(map(len, rest)) == len(rows)
    whole = pa.concat_tables([first, *rest])
    assert whole["user_id"].to_pylist() == [row[0] for row in rows]


def test_a_reader_that_stops_early_blocks_nobody(store):
    store.observations.write(observed(("a", "x", T0, 1.0)), "test")
    reading = store.observations.read()
    next(reading)
    reading.close()
    assert store.observations.write(observed(("b", "x", T0, 1.0)), "test").inserted == 1


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
rows_of_all_kinds = st.lists(
    st.tuples(
        names,
        names,
        st.integers(0, 7_226_582_399_999_999).map(observations.instant),
        st.floats(-1e30, 1e30),
    ),
    max_size=20,
)


@pytest.fixture(scope="module")
def pair(postgres_server, tmp_path_factory):
    """A store of each kind, kept over many examples."""
    folder = tmp_path_factory.mktemp("pair")
    postgres_server.execute("CREATE DATABASE {}", "pair")
    both = opened(f"sqlite:///{folder / 'a.db'}"), opened(postgres_server.url("pair"))
    yield both
    for store in both:
        store.close()
    postgres_server.execute("DROP DATABASE {} WITH (FORCE)", "pair")


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=rows_of_all_kinds)
def test_both_databases_hold_the_same(pair, rows):
    results = [store.observations.write(observed(*rows), "test") for store in pair]
    assert results[0] == results[1]
    tables = [
        pa.concat_tables([SCHEMA.empty_table(), *store.observations.read()]) for store in pair
    ]
    assert tables[0].equals(tables[1])
    assert pair[0].observations.users() == pair[1].observations.users()
    assert pair[0].observations.metrics() == pair[1].observations.metrics()
