"""The example package of docs/extending.md: installed beside the product, and one month run with all of it."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import pytest

from tests.fixtures.installing import install

SETTINGS = """
[source]
reader = "door-log"
options = { path = "doors.txt" }

[metric.doors]
likelihood = "logistic-narrow"

[calendar]
country = "factory"

[model]
cell = "minimal"
units = 4
steps = 10
batch = 8
truncate_steps = 24

[threshold]
kind = "highest-ever"
options = { margin = 0.1 }

[notify]
urls = ["board://{folder}/board.txt"]
"""


def door_log() -> str:
    """Ten people through three months, and one who opens doors all of a night in the last."""
    rng = np.random.default_rng(4)
    lines = []
    for hour in pd.date_range("2026-01-01", "2026-04-01", freq="h", inclusive="left", tz="UTC"):
        busy = 3.0 if 8 <= hour.hour < 18 and hour.day_of_week < 5 else 0.05
        for user, count in enumerate(rng.poisson(busy, 10)):
            night = user == 3 and hour.strftime("%m-%dT%H") in {"03-12T02", "03-12T03"}
            lines += [f"{hour.isoformat()} east u{user:02d}"] * (count + 80 * night)
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(600)
def test_one_of_each_is_installed_named_in_the_settings_and_used(repository, tmp_path):
    installed = install(tmp_path, repository, repository / "examples" / "extensions")
    (installed.folder / "anomaly.toml").write_text(
        SETTINGS.replace("{folder}", str(installed.folder))
    )
    (installed.folder / "doors.txt").write_text(door_log())
    installed.anomaly("db", "upgrade")
    assert "door-log" in installed.anomaly("check").stdout
    assert "complete" in installed.anomaly("run", "--month", "2026-03").stdout
    with sqlite3.connect(installed.folder / "anomaly.db") as database:
        assert database.execute("select count(*) from observations").fetchone()[0] > 5_000
        flagged = {row[0] for row in database.execute("select user_id from flags_current")}
    assert "u03" in flagged
    listed = installed.anomaly("models", "list", COLUMNS="200").stdout
    assert "minimal" in listed
    assert "logistic-narrow" in listed
    installed.anomaly("notify", "test")
    assert "Messages to board arrive here." in (installed.folder / "board.txt").read_text()
