"""Files read in place: rows in order, as they mostly are, take a short way that must not be another one."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly.rows import Rows, all_rising
from anomaly.sources.cleaning import Checks
from anomaly.sources.placed import Placed

START = 1_772_323_200  # 2026-03-01
HOURS, METRICS, USERS = 48, ("files_read", "logons"), ("amy", "böb", "zoë")
NOW = START + 30 * 86_400
BAD = {
    "negative": {"value": -1.0},
    "not a number": {"value": float("nan")},
    "not there": {"value": None},
    "to come": {"observed_at": dt.datetime.fromtimestamp(NOW + 60, dt.UTC)},
    "before time": {"observed_at": dt.datetime(1969, 1, 1, tzinfo=dt.UTC)},
    "nobody": {"user_id": None},
    "nul": {"user_id": "a\0b"},
}


def in_order() -> pa.Table:
    """A row for each user, hour and metric."""
    cells = [(u, h, m) for u in USERS for h in range(HOURS) for m in METRICS]
    times = [dt.datetime.fromtimestamp(START + 3_600 * h, dt.UTC) for _, h, _ in cells]
    return pa.table(
        {
            "user_id": [u for u, _, _ in cells],
            "metric": [m for _, _, m in cells],
            "observed_at": pa.array(times, pa.timestamp("us", "UTC")),
            "value": np.arange(len(cells), dtype=np.float64),
        }
    )


def placed(folder, table: pa.Table, **how) -> tuple[Placed, int]:
    """The table as a file that was looked over, and how many rows were set aside."""
    (folder / "rows").mkdir(parents=True)
    pq.write_table(table, folder / "rows" / "part.parquet", **how)
    checks = Checks(now=NOW, counts=frozenset(METRICS))
    files = Placed(folder / "rows", folder / "index", lambda: checks)
    rejects = [reject for looked in files.look_over(0.5) for reject in looked.rejects]
    return files, len(rejects)


def told(files: Placed, *span) -> list[object]:
    """Everything that is said of the files."""
    table = pa.concat_tables(files.read(*span)).combine_chunks()
    rows = Rows.from_arrow(table)
    order = np.lexsort((rows.metric_code, rows.observed_at, rows.user_code))
    columns = (rows.user_code, rows.metric_code, rows.observed_at, rows.value)
    return [
        *(column[order].tolist() for column in columns),
        rows.user_names,
        rows.metric_names,
        files.users(),
        files.metrics(),
        files.first_seen(),
        files.last_seen(),
        files.span(),
        files.count(),
    ]


@pytest.mark.parametrize("how", [None, "nobody"])
def test_columns_passed_over_are_named_when_a_file_is_looked_over(tmp_path, how):
    table = in_order() if how is None else with_bad(in_order(), how)
    files, _ = placed(tmp_path, table.append_column("site", pa.array(["a"] * len(table))))
    files.forget()
    assert [one.passed for one in files.look_over(0.5)][-1] == {"site"}


def with_bad(table: pa.Table, how: str) -> pa.Table:
    """The table with one more row, a bad one, in its middle."""
    row = {**table.slice(70, 1).to_pylist()[0], **BAD[how]}
    extra = pa.Table.from_pylist([row], table.schema)
    return pa.concat_tables([table.slice(0, 70), extra, table.slice(70)])


@pytest.mark.parametrize("groups", [1_000, 60])
def test_rows_in_any_order_are_the_same(tmp_path, groups):
    table = in_order()
    mixed = table.take(np.random.default_rng(1).permutation(len(table)))
    short, _ = placed(tmp_path / "a", table, row_group_size=groups)
    long, _ = placed(tmp_path / "b", mixed, row_group_size=groups)
    assert told(short) == told(long)
    span = [dt.datetime.fromtimestamp(START + 3_600 * hour, dt.UTC) for hour in (5, 30)]
    for users in (None, USERS, USERS[1:2], USERS[::2]):
        assert told(short, *span, users) == told(long, *span, users)


def test_a_row_that_comes_twice_is_read_once(tmp_path):
    table = in_order()
    again = pa.concat_tables([table.slice(0, 70), table.slice(69)])
    assert told(placed(tmp_path / "a", table)[0]) == told(placed(tmp_path / "b", again)[0])


@pytest.mark.parametrize("how", BAD)
def test_one_bad_row_is_found_among_rows_in_order(tmp_path, how):
    table = in_order()
    files, rejects = placed(tmp_path / "b", with_bad(table, how))
    assert rejects == 1
    assert told(files) == told(placed(tmp_path / "a", table)[0])


def test_rows_rise_by_user_then_time_then_metric():
    users, instants, metrics = (np.array(column) for column in zip(*KEYS, strict=True))
    assert all_rising(users, instants, metrics)
    for place in range(len(KEYS) - 1):
        swapped = np.arange(len(KEYS))
        swapped[[place, place + 1]] = place + 1, place
        assert not all_rising(users[swapped], instants[swapped], metrics[swapped])
    twice = np.repeat(np.arange(len(KEYS)), 2)
    assert not all_rising(users[twice], instants[twice], metrics[twice])


KEYS = [(0, 5, 0), (0, 5, 1), (0, 6, 0), (1, 2, 1), (1, 3, 0), (2, 3, 0)]
