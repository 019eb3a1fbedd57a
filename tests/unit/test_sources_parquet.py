"""Reading Parquet: types, folders, filters, damage."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly.exceptions import DataError
from anomaly.sources import Checks, parquet, read_file

START = 1_767_225_600  # 2026-01-01 UTC
DAY = 86_400


UTC = pa.timestamp("us", tz="UTC")


def table(days=4, users=("a", "b"), kind=UTC):
    """A row for each user and day, whose value is the day's number; sorted by user."""
    instants = [START + day * DAY for day in range(days)] * len(users)
    return pa.table(
        {
            "user_id": np.repeat(users, days).tolist(),
            "metric": ["m"] * len(instants),
            "observed_at": pa.array(instants, pa.timestamp("s", tz=kind.tz)).cast(kind),
            "value": pa.array([float(day) for day in range(days)] * len(users), pa.float32()),
        }
    )


def with_column(name, values):
    whole = table(days=1, users=("a",))
    if name not in whole.column_names:
        return whole.append_column(name, values)
    return whole.set_column(whole.column_names.index(name), name, values)


def write(path, content, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, **kwargs)
    return path


def read(path, *args, **kwargs):
    batches = list(read_file(path, *args, **kwargs))
    rows = [tuple(row.values()) for batch in batches for row in batch.table.to_pylist()]
    return rows, [(each.location, each.reason) for batch in batches for each in batch.rejects]


def test_a_file_is_its_rows(tmp_path):
    rows, rejects = read(write(tmp_path / "oct.parquet", table()))
    assert rows[:2] == [
        ("a", "m", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), 0.0),
        ("a", "m", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), 1.0),
    ]
    assert (len(rows), rejects) == (8, [])


@pytest.mark.parametrize(
    "times",
    [
        pa.array([START], pa.timestamp("s", tz="Europe/Berlin")),
        pa.array([START * 10**9], pa.timestamp("ns", tz="UTC")),
        pa.array([START * 10**3], pa.timestamp("ms")),
        pa.array([START], pa.int64()),
        pa.array([START * 10**3], pa.int64()),
        pa.array([float(START)], pa.float64()),
        pa.array([START // DAY], pa.int32()).cast(pa.date32()),
        pa.array(["2026-01-01T00:00:00Z"]),
        pa.array(["2026-01-01T00:00:00Z"]).dictionary_encode(),
    ],
)
def test_times_of_any_type(tmp_path, times):
    rows, rejects = read(write(tmp_path / "oct.parquet", with_column("observed_at", times)))
    assert rejects == []
    assert rows[0][2] == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("user_id", pa.array([None], pa.string()), "missing_user_id"),
        ("metric", pa.array([None], pa.string()), "missing_metric"),
        ("observed_at", pa.array([None], pa.timestamp("us", tz="UTC")), "missing_time"),
        ("observed_at", pa.array([2**61], pa.timestamp("us", tz="UTC")), "time_out_of_range"),
        ("observed_at", pa.array([-1], pa.timestamp("us")), "time_out_of_range"),
        ("observed_at", pa.array([5], pa.int64()), "unreadable_time"),
        ("observed_at", pa.array([float("nan")]), "unreadable_time"),
        ("value", pa.array([None], pa.float64()), "missing_value"),
        ("value", pa.array([float("nan")]), "not_finite"),
        ("value", pa.array([float("inf")]), "not_finite"),
        ("value", pa.array([1e300]), "value_too_large"),
        ("value", pa.array(["much"]), "unreadable_value"),
    ],
)
def test_bad_cells_are_set_aside(tmp_path, column, cell, reason):
    file = write(tmp_path / "oct.parquet", with_column(column, cell))
    assert read(file) == ([], [("oct.parquet row 1", reason)])


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("user_id", pa.array([7], pa.int64())),
        ("user_id", pa.array(["7"], pa.large_string())),
        ("value", pa.array([True])),
        ("value", pa.array([1], pa.decimal128(9, 2))),
        ("value", pa.array([1], pa.uint8())),
    ],
)
def test_other_types_of_names_and_numbers(tmp_path, column, cell):
    rows, rejects = read(write(tmp_path / "oct.parquet", with_column(column, cell)))
    assert rejects == []
    assert (rows[0][0] == "7") if column == "user_id" else (rows[0][3] == 1.0)


def test_a_row_keeps_its_number_across_row_groups_and_filters(tmp_path):
    content = table(days=4, users=("a", "b", "c"))
    values = content["value"].to_pylist()
    values[10] = float("nan")
    file = write(
        tmp_path / "oct.parquet", content.set_column(3, "value", pa.array(values)), row_group_size=3
    )
    for checks in (Checks(), Checks(users=frozenset({"c"})), Checks(start=START + DAY)):
        assert read(file, checks=checks)[1] == [("oct.parquet row 11", "not_finite")]


def test_only_row_groups_that_may_hold_wanted_rows_are_read(tmp_path, monkeypatch):
    file = write(tmp_path / "oct.parquet", table(days=10, users=("a", "b", "c")), row_group_size=10)
    read_groups = []
    whole = pq.ParquetFile.iter_batches

    def noted(self, size, groups, columns):
        read_groups.extend(groups)
        return whole(self, size, groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    rows, _ = read(file, checks=Checks(users=frozenset({"b"}), start=START + 2 * DAY))
    assert (len(rows), read_groups) == (8, [1])
    assert read(file, checks=Checks(end=START - 5 * DAY)) == ([], [])
    assert read_groups == [1]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("us", tz="UTC"), pa.timestamp("us"), pa.timestamp("ns")]
)
def test_wanted_times_are_exact_whatever_the_type(tmp_path, kind):
    file = write(tmp_path / "oct.parquet", table(days=9, users=("a",), kind=kind), row_group_size=1)
    rows, _ = read(file, checks=Checks(start=START + 2 * DAY, end=START + 4 * DAY))
    assert [value for *_, value in rows] == [2.0, 3.0]


def test_a_large_file_comes_in_batches_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 100)
    file = write(tmp_path / "oct.parquet", table(days=1_000, users=("a",)))
    assert max(len(batch.table) for batch in read_file(file)) == 100


def test_a_folder_with_partitions_has_their_columns(tmp_path):
    for user in ("a", "it's 100%"):
        folder = f"user_id={user.replace('%', '%25')}"
        content = table(days=1, users=(user,)).drop_columns(["user_id"])
        write(tmp_path / "rows" / "month=2026-01" / folder / "part-0.parquet", content)
    rows, _ = read(tmp_path / "rows")
    assert sorted(user for user, *_ in rows) == ["a", "it's 100%"]


def test_repeats_across_a_folders_files_are_known(tmp_path):
    write(tmp_path / "rows" / "a.parquet", table(days=2, users=("a",)))
    write(tmp_path / "rows" / "b.parquet", table(days=3, users=("a",)))
    batches = list(read_file(tmp_path / "rows"))
    assert [(len(batch.table), batch.joined) for batch in batches] == [(2, 0), (1, 2)]


def test_a_plain_series_and_a_wide_table(tmp_path):
    plain = table(days=2, users=("a",)).select(["observed_at", "value"])
    rows, _ = read(write(tmp_path / "pump.parquet", plain))
    assert [(user, metric) for user, metric, *_ in rows] == [("pump", "value")] * 2
    frame = pd.DataFrame(
        {
            "timestamp": pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True),
            "cpu": [1, 2],
            "load": [0.5, np.nan],
            "host": ["x", "y"],
        },
        index=[3, 5],
    )
    frame.to_parquet(tmp_path / "wide.parquet")
    rows, rejects = read(tmp_path / "wide.parquet")
    assert [(metric, value) for _, metric, _, value in rows] == [
        ("cpu", 1.0),
        ("cpu", 2.0),
        ("load", 0.5),
    ]
    assert rejects == []
    assert {batch.passed for batch in read_file(tmp_path / "wide.parquet")} == {("host",)}


def test_a_wide_table_without_numbers_is_refused(tmp_path):
    content = (
        table(days=1).select(["observed_at", "user_id"]).append_column("host", pa.array(["x", "y"]))
    )
    with pytest.raises(DataError, match="no column of numbers among host"):
        read(write(tmp_path / "oct.parquet", content))


@pytest.mark.parametrize("cut", [4, 0.5, 0.99])
def test_a_file_cut_short_is_refused_by_name(tmp_path, cut):
    file = write(tmp_path / "oct.parquet", table(days=500))
    content = file.read_bytes()
    file.write_bytes(content[: cut if cut > 1 else int(len(content) * cut)])
    with pytest.raises(DataError, match=r"oct\.parquet: no readable Parquet.*write it again"):
        read(file)


def test_a_damaged_page_is_refused(tmp_path):
    file = write(tmp_path / "oct.parquet", table(days=5_000), compression="zstd")
    content = bytearray(file.read_bytes())
    content[100:2_000] = b"\xff" * 1_900
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match="no readable Parquet"):
        read(file)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(DataError, match="'observed_at', only user_id, metric, value"):
        read(write(tmp_path / "oct.parquet", table().drop_columns(["observed_at"])))


def test_an_empty_table_is_no_rows(tmp_path):
    assert read(write(tmp_path / "oct.parquet", table(days=0))) == ([], [])


def test_parquet_is_known_by_its_content(tmp_path):
    assert len(read(write(tmp_path / "rows.txt", table()))[0]) == 8
