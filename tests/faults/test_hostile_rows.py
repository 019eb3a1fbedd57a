"""Hostile rows among good ones: each is read or set aside with a reason, and the good ones' flags stay.

A file is made of a few users' behaviour and many rows that mean harm or mean nothing: every field may
be wrong. The short form runs with all tests; `make faults` reads 100,000 hostile rows.
"""

import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import parquet
from sqlalchemy.engine import make_url

from anomaly.exceptions import DataError
from anomaly.months import Month
from anomaly.rows import REASONS
from anomaly.settings import Settings
from pipelines.jobs.ingest import ingest_file
from pipelines.jobs.month import run_month
from pipelines.services import Services
from tests.fixtures.jobs import Clock, at, behaviour, make_services
from tests.fixtures.tally import Tally, compared

Write = Callable[[Path, pa.Table, list[tuple[str, str, str, str]]], None]
MONTH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}
HOSTILE = 100_000
FEW = 2_000
NAMES = [
    "", " ", "\t", "NULL", "nan", "None", "'; DROP TABLE observations;--", '" OR 1=1 --',
    "<script>alert(1)</script>", "=cmd|'/c calc'!A0", "+1", "-1", "@SUM(A1)", "../../etc/passwd",
    "C:\\con\\aux", "%s%s%n", "{0.__class__}", "${jndi:ldap://x}", "\u202eevil", "\ufeffbom",
    "a" * 512, "a" * 513, "\U0001f600" * 200, "e\u0301", "\u00e9", "\u0000", "x\ny", "x\r\ny",
    "line\u2028sep", "\x1b[31mred", "../anomaly.toml", "//evil.example", "u\u0130", "\udcff",
]  # fmt: skip
TIMES = [
    "", "soon", "0", "-1", "1e400", "1772323200", "1772323200000", "1772323200000000000000",
    "2026-03-29 02:30:00", "2026-02-30", "2026-13-01", "0000-00-00", "0001-01-01", "9999-12-31",
    "2026-03-10T10:00:00+99:00", "2026-03-10T24:00:00Z", "2026-03-10T10:00:60Z", "10/03/2026",
    "2026-03-10 10:00", "2026-03-10T10:00:00.123456789Z", "2027-03-10T10:00:00Z", "\u0662\u0660",
    "2026-W10-2", "2026-069", "now()", "NaT", "March 10 2026", "2026-03-10T10:00:00Z; DROP",
]  # fmt: skip
VALUES = [
    "", "nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "1e31", "-1", "-0", "0x10", "1,5", "1.5.5",
    "1_000", "\u0661\u0662", "1e", "--1", "true", "NULL", "=1+1", "1 2", "9" * 400, "0." + "9" * 400,
    "\u00bd", "3", "7.5", "1e29", "+5", " 6 ", "5\x00",
]  # fmt: skip


def hostile(count: int, seed: int) -> list[tuple[str, str, str, str]]:
    """Rows in which at least one field means harm or nothing; none of them is of a good user."""
    rng = random.Random(seed)
    rows = []
    while len(rows) < count:
        user = rng.choice(NAMES) if rng.random() < 0.5 else f"h{rng.randrange(50)}"
        metric = rng.choice(NAMES) if rng.random() < 0.02 else rng.choice(["files", "logons"])
        day, hour = rng.randrange(1, 29), rng.randrange(24)
        when = f"2026-03-{day:02d}T{hour:02d}:{rng.randrange(60):02d}:{rng.randrange(60):02d}Z"
        when = rng.choice(TIMES) if rng.random() < 0.5 else when
        value = rng.choice(VALUES) if rng.random() < 0.5 else str(rng.randrange(20))
        if metric not in ("files", "logons"):
            value = (
                ""  # a metric of its own would be another panel, which is not what is asked here
            )
        if user or metric or when or value:  # an empty line is no row
            rows.append((user, metric, when, value))
    return rows


def write_csv(path: Path, good: pa.Table, bad: list[tuple[str, str, str, str]]) -> None:
    """Good and hostile rows, shuffled into one another."""
    rows = [
        (row["user_id"], row["metric"], row["observed_at"].isoformat(), repr(row["value"]))
        for row in good.to_pylist()
    ]
    rows += bad
    random.Random(1).shuffle(rows)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["user_id", "metric", "observed_at", "value"])
        writer.writerows(rows)


def write_parquet(path: Path, good: pa.Table, bad: list[tuple[str, str, str, str]]) -> None:
    """The same with words in every column, as an export of words has them."""
    words = [
        (row["user_id"], row["metric"], row["observed_at"].isoformat(), repr(row["value"]))
        for row in good.to_pylist()
    ]
    words += [tuple(text.replace("\udcff", "?") for text in row) for row in bad]
    columns = [pa.array(column, pa.string()) for column in zip(*words, strict=True)]
    parquet.write_table(pa.table(columns, names=good.schema.names), path)


def services_of(url: str, folder: Path, max_rejected: float) -> Services:
    """Services that bear so many bad rows."""
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "run": {"workers": 1},
            "source": {"max_rejected": max_rejected},
        }
    )
    return make_services(url, folder, Clock(at("2026-04-20T00:00")), settings)


def check_hostile(url: str, folder: Path, count: int, seed: int, write: Write, tally: Tally):
    """Read them; every row is accounted for, the good ones are there once, and the month ends."""
    good, bad = behaviour("2026-01", "2026-03", peaks=PEAKS), hostile(count, seed)
    path = folder / ("mixed.csv" if write is write_csv else "mixed.parquet")
    write(path, good, bad)
    services = services_of(url, folder, max_rejected=1.0)
    told = ingest_file(services, path).tally
    tables = services.store.observations.read(at("1970-01-01T00:00"), at("2200-01-01T00:00"))
    kept = pa.concat_tables(list(tables))
    ours = kept.filter(pc.is_in(kept["user_id"], good["user_id"].unique()))
    lost, doubled = compared(good.to_pylist(), ours.to_pylist())
    where = f"{make_url(url).get_backend_name()}, {path.suffix[1:]}"
    tally.add("hostile row", where, "set aside", told.rejected, lost, doubled)
    tally.add("hostile row", where, "taken as what it says", count - told.rejected)
    assert (lost, doubled) == (0, 0)
    assert told.read == len(good) + count
    assert told.read == len(kept) + told.joined + told.rejected
    assert set(told.reasons) <= set(REASONS)
    assert count / 3 < told.rejected < count
    values = kept["value"].to_numpy()
    assert np.isfinite(values).all()
    outcome = run_month(services, MONTH)
    assert outcome.state == "complete"
    assert {"u2", "u4"} <= {flag.user_id for flag in outcome.flags}
    assert all(np.isfinite(flag.score) for flag in outcome.flags)
    services.store.close()


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_hostile_rows(database_url, tmp_path, write, tally):
    check_hostile(database_url, tmp_path, FEW, time.time_ns(), write, tally)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_many_hostile_rows(database_url, tmp_path, write, tally):
    tally.shown = True
    check_hostile(database_url, tmp_path, HOSTILE, 1, write, tally)


def test_a_source_of_hostile_rows_is_refused_whole(sqlite_url, tmp_path):
    path = tmp_path / "mixed.csv"
    write_csv(path, behaviour("2026-01", "2026-03"), hostile(FEW, 1))
    services = services_of(sqlite_url, tmp_path, max_rejected=0.05)
    with pytest.raises(DataError, match=r"mixed\.csv"):
        ingest_file(services, path)
    assert services.store.observations.span() is None
    services.store.close()
