import numpy as np
import pyarrow as pa
import pytest

from anomaly.exceptions import DataError
from anomaly.rows import TIME_TYPE, Rows

START = 1_767_225_600  # 2026-01-01 UTC


def table(*rows, unit=1_000_000):
    users, metrics, times, values = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "metric": pa.array(metrics, pa.string()),
            "observed_at": pa.array([int(time * unit) for time in times], TIME_TYPE),
            "value": pa.array(values, pa.float64()),
        }
    )


def test_names_are_sorted_and_codes_point_at_them():
    rows = Rows.from_arrow(table(("zoe", "b", START, 1), ("adam", "a", START + 1, 2)))
    assert rows.user_names == ("adam", "zoe")
    assert rows.metric_names == ("a", "b")
    assert rows.user_code.tolist() == [1, 0]
    assert rows.observed_at.tolist() == [START, START + 1]
    assert rows.value.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "two\nlines", "🦊", "x" * 10_000, "é", ""])
def test_any_text_is_a_name(name):
    assert Rows.from_arrow(table((name, "m", START, 1))).user_names == (name,)


def test_of_rows_with_one_key_the_first_is_kept():
    rows = Rows.from_arrow(table(("u", "m", START, 1), ("u", "m", START, 9), ("u", "m", START, 1)))
    assert rows.value.tolist() == [1]


def test_events_within_a_second_are_not_one():
    rows = Rows.from_arrow(table(("u", "m", START + 0.25, 1), ("u", "m", START + 0.5, 1)))
    assert rows.observed_at.tolist() == [START, START]


def test_repeats_are_found_among_times_too_far_apart_for_one_number():
    users = tuple(f"u{number}" for number in range(2_000))
    many = [(user, f"m{user}", START + place, 1) for place, user in enumerate(users)]
    far = [("u1", "mu1", 7_000_000_000, 1), ("u1", "mu1", 7_000_000_000, 2)]
    rows = Rows.from_arrow(table(*many, *far))
    assert len(rows) == len(many) + 1


def test_an_empty_table_is_empty_rows():
    rows = Rows.from_arrow(table())
    assert len(rows) == 0
    assert rows.user_names == ()


def test_dictionaries_that_differ_between_chunks_are_joined():
    first, second = table(("a", "m", START, 1)), table(("b", "m", START, 2))
    chunks = [
        each.set_column(0, "user_id", each["user_id"].dictionary_encode())
        for each in (first, second)
    ]
    rows = Rows.from_arrow(pa.concat_tables(chunks))
    assert [rows.user_names[code] for code in rows.user_code] == ["a", "b"]


def test_names_without_rows_go():
    rows = Rows.from_arrow(table(("a", "m", START, 1), ("b", "n", START + 60, 2)))
    late = rows.between(START + 1, START + 100)
    assert late.user_names == ("b",)
    assert late.metric_names == ("n",)
    assert late.user_code.tolist() == [0]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("value", pa.array(["1"]), "expected numbers"),
        ("value", pa.array([None], pa.float64()), "is missing"),
        ("observed_at", pa.array([START], pa.timestamp("s")), "time zone"),
        ("user_id", pa.array([None], pa.string()), "null"),
    ],
)
def test_what_is_no_observation_is_refused(column, values, message):
    good = table(("u", "m", START, 1))
    bad = good.set_column(good.column_names.index(column), column, values)
    with pytest.raises(DataError, match=message):
        Rows.from_arrow(bad)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="no column metric"):
        Rows.from_arrow(table(("u", "m", START, 1)).drop_columns(["metric"]))


def test_seconds_before_a_unit_are_rounded_down():
    times = pa.array([START * 1_000 + 999], pa.timestamp("ms", tz="Europe/Berlin"))
    rows = Rows.from_arrow(table(("u", "m", START, 1)).set_column(2, "observed_at", times))
    assert rows.observed_at.dtype == np.int64
    assert rows.observed_at.tolist() == [START]
