"""Whatever a file holds, reading accounts for every row, and rows' order changes no panel."""

import csv
import datetime as dt
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from anomaly.exceptions import AnomalyError
from anomaly.grid import make_grid, to_panel
from anomaly.metrics import MetricSpec
from anomaly.months import Month, local_days
from anomaly.rows import LONGEST_NAME, REASONS, SCHEMA, Rows
from anomaly.sources import read_file

START = 1_767_225_600  # 2026-01-01 UTC
HOUR, DAY = 3_600, 86_400
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia"]
)

words = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12)
times = st.one_of(
    st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2030, 1, 1)).map(str),  # noqa: DTZ001 - naive on purpose
    st.sampled_from(["", "soon", "2026-01-01", "9999-01-01", "1767225600", "2026-10-25 02:30:00"]),
    words,
)
values = st.one_of(st.floats(width=64).map(repr), st.integers().map(str), words)
records = st.lists(st.tuples(words, words, times, values), max_size=25)


def observations(users="ab", metrics="mn"):
    """Rows of SCHEMA with distinct keys, within two days."""
    keys = st.tuples(st.sampled_from(users), st.sampled_from(metrics), st.integers(0, 2 * DAY - 1))
    numbers = st.floats(-1e6, 1e6, allow_nan=False)
    return st.dictionaries(keys, numbers, max_size=40).map(
        lambda found: [(*key, value) for key, value in found.items()]
    )


def rows_of(observed):
    columns = list(zip(*observed, strict=True)) if observed else [(), (), (), ()]
    instants = [(START + second) * 1_000_000 for second in columns[2]]
    return Rows.from_arrow(
        pa.table(
            [
                columns[0],
                columns[1],
                pa.array(instants, SCHEMA.types[2]),
                pa.array(columns[3], pa.float64()),
            ],
            schema=SCHEMA,
        )
    )


@given(records=records, zone=ZONES)
def test_every_row_of_a_file_is_accounted_for(records, zone):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            writer.writerow(["user_id", "metric", "observed_at", "value"])
            writer.writerows(records)
        batches = list(read_file(path, timezone=zone))
    filled = [record for record in records if any(record)]
    assert sum(batch.read for batch in batches) == len(filled)
    for batch in batches:
        assert {reject.reason for reject in batch.rejects} <= set(REASONS)
        numbers = batch.table["value"].to_numpy()
        assert np.isfinite(numbers.astype(np.float32)).all()
        assert all(
            0 < len(user.encode()) <= LONGEST_NAME for user in batch.table["user_id"].to_pylist()
        )


def refusal(path):
    """Why a file is refused; None if it is read."""
    try:
        list(read_file(path))
    except AnomalyError as error:
        return str(error)
    return None


@given(content=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_by_name(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        path.write_bytes(b"observed_at,value\n" + content)
        assert "any.csv" in (refusal(path) or "any.csv")


@given(content=st.binary(max_size=300), magic=st.sampled_from([b"", b"PAR1", b"\x1f\x8b"]))
def test_a_file_of_any_bytes_is_read_or_refused_by_name(content, magic):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        path.write_bytes(magic + content)
        assert "any.csv" in (refusal(path) or "any.csv")


@given(
    observed=observations(),
    data=st.data(),
    aggregate=st.sampled_from(["sum", "mean", "max", "last"]),
)
def test_the_order_of_rows_changes_no_panel(observed, data, aggregate):
    shuffled = data.draw(st.permutations(observed))
    grid = make_grid(START, START + 2 * DAY, HOUR, "UTC")
    specs = {name: MetricSpec(name, "gauge", aggregate, "missing") for name in "mn"}
    panels = [to_panel(rows_of(rows), grid, ("m", "n"), specs) for rows in (observed, shuffled)]
    assert panels[0].users == panels[1].users
    for field in ("values", "mask", "first", "last"):
        assert getattr(panels[0], field).tobytes() == getattr(panels[1], field).tobytes()


@given(observed=observations())
def test_a_panel_holds_each_total_once(observed):
    grid = make_grid(START, START + 2 * DAY, HOUR, "UTC")
    specs = {name: MetricSpec(name, "gauge", "sum", "missing") for name in "mn"}
    panel = to_panel(rows_of(observed), grid, ("m", "n"), specs)
    assert np.isclose(panel.values.sum(dtype=np.float64), sum(row[3] for row in observed), atol=1)
    assert panel.mask.sum() == len(
        {(user, metric, second // HOUR) for user, metric, second, _ in observed}
    )


@given(observed=observations(), later=observations())
def test_rows_after_the_end_change_nothing(observed, later):
    grid = make_grid(START, START + DAY, HOUR, "UTC")
    specs = {name: MetricSpec(name, "gauge", "sum", "missing") for name in "mn"}
    known = [row for row in observed if row[2] < DAY]
    more = known + [row for row in later if row[2] >= DAY]
    panels = [
        to_panel(rows_of(rows), grid, ("m", "n"), specs, users="ab") for rows in (known, more)
    ]
    assert panels[0].values.tobytes() == panels[1].values.tobytes()
    assert panels[0].mask.tobytes() == panels[1].mask.tobytes()


@given(start=st.integers(0, 4_000_000_000), length=st.integers(1, 90 * DAY), zone=ZONES)
def test_local_days_cover_a_span_without_gap(start, length, zone):
    days = local_days(start, start + length, zone)
    assert days[0] <= start
    assert days[-1] < start + length
    assert (np.diff(days) > 0).all()
    assert (np.diff(days) <= 26 * HOUR).all()


@given(year=st.integers(1971, 2100), month=st.integers(1, 12), zone=ZONES)
def test_months_follow_each_other_without_gap(year, month, zone):
    this = Month(year, month)
    assert this.end(zone) == this.next().start(zone)
    assert Month.parse(str(this)) == this
    hours = (this.end(zone) - this.start(zone)).total_seconds() / HOUR
    # Samoa's December 2011 lacks a day; St John's once put its clocks forward by two hours.
    assert 28 * 24 - 2 <= hours <= 31 * 24 + 2
