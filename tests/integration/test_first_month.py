"""docs/first-month.md, followed to the letter on a made database."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from anomaly.simulation import make_world


def fenced(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def company(tmp_path) -> Path:
    """Somebody else's database: employees, by the hour, over three months."""
    world = make_world(users=60, months=3, start="2026-01", seed=11)
    rows = world.observations.to_pandas()
    table = pd.DataFrame(
        {
            "employee": rows["user_id"],
            "what": rows["metric"],
            "at": rows["observed_at"].dt.strftime("%Y-%m-%d %H:%M:%S"),
            "amount": rows["value"],
        }
    )
    with sqlite3.connect(tmp_path / "company.db") as connection:
        table.to_sql("activity", connection, index=False)
    return tmp_path


@pytest.mark.timeout(600)
def test_the_page_leads_to_flags(company, repository):
    page = (repository / "docs" / "first-month.md").read_text()
    (settings,) = fenced(page, "toml")
    (company / "anomaly.toml").write_text(settings)
    before = (company / "company.db").read_bytes()
    commands = [line for block in fenced(page, "sh") for line in block.strip().splitlines()]
    assert len(commands) >= 8
    for command in commands:
        name, *arguments = command.split()
        assert name == "anomaly"
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *arguments],
            capture_output=True, text=True, check=False, cwd=company, env={**os.environ},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    flags = pd.read_csv(company / "march.csv")
    with sqlite3.connect(company / "anomaly.db") as connection:
        seen = connection.execute(
            "select count(*) from flags_current where month = '2026-03'"
        ).fetchone()[0]
        people = connection.execute(
            "select count(*) from user_months_current where month = '2026-03'"
        ).fetchone()[0]
    assert len(flags) == seen
    assert people >= 50
    assert "2026-03" in (company / "march.md").read_text()
    assert (company / "company.db").read_bytes() == before


def test_the_commands_named_in_the_text_exist(repository):
    page = (repository / "docs" / "first-month.md").read_text()
    named = set(re.findall(r"anomaly ([a-z]+)", page))
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert named >= {"backfill", "serve", "schedule", "init"}
    assert not {name for name in named if f"  {name} " not in shown}
