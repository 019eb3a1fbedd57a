"""A company's log-ons and e-mail by the day, through both databases: the same flags."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

MONTHS = ("2010-08", "2010-09", "2010-10")


def anomaly(folder: Path, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "ANOMALY_DATABASE__URL": url, "ANOMALY_GRID__STEP": "1D"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def exported(folder: Path, url: str, month: str) -> bytes:
    out = folder / f"{month}.csv"
    anomaly(folder, url, "flags", "export", "--month", month, "--format", "csv", "--out", str(out))
    return out.read_bytes()


@pytest.mark.timeout(900)
def test_months_of_a_real_company_are_the_same_from_both_databases(
    shared_data, tmp_path, sqlite_url, postgres_url
):
    daily = shared_data / "cert_r42" / "daily.parquet"
    flags = {}
    for name, url in (("sqlite", sqlite_url), ("postgres", postgres_url)):
        folder = tmp_path / name
        folder.mkdir()
        anomaly(folder, url, "db", "upgrade")
        anomaly(folder, url, "import", str(daily))
        anomaly(folder, url, "backfill", "--from", MONTHS[0], "--to", MONTHS[-1])
        flags[name] = [exported(folder, url, month) for month in MONTHS]
    assert flags["sqlite"] == flags["postgres"]
    found = pd.concat(pd.read_csv(tmp_path / "sqlite" / f"{month}.csv") for month in MONTHS)
    users = pd.read_parquet(daily, columns=["user_id"])["user_id"].nunique()
    assert 1 <= len(found) <= 0.06 * users * len(MONTHS)
