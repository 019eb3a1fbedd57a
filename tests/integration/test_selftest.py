"""anomaly selftest: incidents planted into a copy of a real month, and what is said of them."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
import structlog

from anomaly.exceptions import DataError, UsageError
from anomaly.months import Month
from anomaly.planting import Planted
from anomaly.store.tables import METADATA
from pipelines.cli.app import run
from pipelines.jobs.month import run_month
from pipelines.jobs.selftest import selftest
from tests.fixtures.jobs import Clock, at, behaviour, make_services

MARCH = Month(2026, 3)
ARGUMENTS = ["selftest", "--month", "2026-03", "--incidents", "6"]


@pytest.fixture
def services(sqlite_url, tmp_path, monkeypatch):
    """Six weeks of twelve users, and a champion; a small engine that sees no more than peaks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("ANOMALY_RUN__ARTEFACTS", str(tmp_path / "artefacts"))
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    made.store.observations.write(behaviour("2026-01", "2026-03", users=12), "t")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield made
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def scored(services):
    run_month(services, MARCH)
    return services


@pytest.fixture
def small(scored, monkeypatch):
    """The command line with the small engine in place of the real one."""
    monkeypatch.setattr("pipelines.services.core_engine", scored.engine)
    return scored


def content(url: str) -> dict[str, list[tuple[object, ...]]]:
    with sa.create_engine(url).connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(sa.select(table))]
            for name, table in METADATA.tables.items()
        }


def test_incidents_are_found_by_kind_and_nothing_is_written(scored, sqlite_url):
    before = content(sqlite_url)
    verdict = selftest(scored, MARCH, 0, 6)
    assert content(sqlite_url) == before
    assert (verdict.touched, verdict.untouched) == (6, 6)
    by_kind = verdict.by("kind")
    assert by_kind["planted"].sum() == len(verdict.incidents) == 6
    assert by_kind["found"].sum() == verdict.found
    assert verdict.incidents["rank"].between(1, 12).all()
    assert verdict.incidents["start"].min() >= pd.Timestamp("2026-03-01", tz="UTC")
    assert verdict.incidents["end"].max() <= pd.Timestamp("2026-04-01", tz="UTC")


def test_what_the_engine_sees_is_found_and_what_stood_before_does_not_count(scored, monkeypatch):
    monkeypatch.setattr("pipelines.jobs.selftest.plant", loudly(1e5))
    verdict = selftest(scored, MARCH, 0, 3)
    assert verdict.found_share == 1
    assert (verdict.ap_users, verdict.false_flags, verdict.flagged_before) == (1.0, 0, 0)
    assert sorted(verdict.incidents["rank"]) == [1, 2, 3]

    monkeypatch.setattr("pipelines.jobs.selftest.plant", loudly(0))
    verdict = selftest(scored, MARCH, 0, 3)
    assert (verdict.found, len(verdict.incidents)) == (0, 3)


def test_a_flag_that_stood_already_finds_nothing(services, monkeypatch):
    peak = behaviour("2026-03", "2026-03", users=0, peaks={("u0", "2026-03-12T03:00"): 9e3})
    services.store.observations.write(peak, "t")
    run_month(services, MARCH)
    monkeypatch.setattr("pipelines.jobs.selftest.plant", loudly(1e5, step=11 * 24 + 3))
    verdict = selftest(services, MARCH, 0, 3)
    assert (verdict.flagged_before, verdict.found, len(verdict.incidents)) == (1, 2, 2)


def loudly(amount, step=400):
    """Plant a peak into the first users."""

    def plant(panel, specs, seed, incidents, usual):
        del specs, seed, usual
        more = np.zeros(panel.shape, np.float32)
        more[:incidents, step, 0] = amount
        planted = [Planted(row, "burst", step, step + 1, (0,), 1.0) for row in range(incidents)]
        values = panel.values + more  # noqa: PD011  (a panel, no data frame)
        return replace(panel, values=values), tuple(planted)

    return plant


def test_the_same_seed_says_the_same_whether_states_are_kept_or_replayed(scored, sqlite_url):
    first = selftest(scored, MARCH, 1, 6).incidents
    pd.testing.assert_frame_equal(selftest(scored, MARCH, 1, 6).incidents, first)
    with sa.create_engine(sqlite_url).begin() as connection:
        connection.execute(sa.delete(METADATA.tables["states"]))
    pd.testing.assert_frame_equal(selftest(scored, MARCH, 1, 6).incidents, first)
    other = selftest(scored, MARCH, 2, 6).incidents
    assert not other[["user_id", "start"]].equals(first[["user_id", "start"]])


def test_without_a_model_or_rows_it_says_what_to_do(services):
    with pytest.raises(UsageError, match="no model was trained .* anomaly run --month 2026-03"):
        selftest(services, MARCH, 0, 6)
    with pytest.raises(DataError, match="2025-03 holds no rows; observations run from 2026-01"):
        selftest(services, Month(2025, 3), 0, 6)
    with pytest.raises(UsageError, match="Run a month that has begun"):
        selftest(services, Month(2027, 3), 0, 6)


def test_a_month_that_has_just_begun_is_too_short_to_plant_into(scored):
    scored.clock.now = at("2026-03-04T00:00")
    with pytest.raises(DataError, match="Take a month with a week of rows"):
        selftest(scored, MARCH, 0, 6)


def test_the_command_draws_a_table(small, capsys):
    assert run(ARGUMENTS) == 0
    text = capsys.readouterr().out
    assert "planted in 2026-03" in text
    assert "size 1" in text
    assert "6 untouched users: 0 flags, 0.0 per 1,000 user-months" in text
    assert "the budget is 20" in text


def test_the_command_writes_csv_and_json(small, capfd):
    assert run([*ARGUMENTS, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert run([*ARGUMENTS, "--format", "json"]) == 0
    records = json.loads(capfd.readouterr().out)
    assert [row["kind"] for row in rows] == [record["kind"] for record in records]
    assert set(records[0]) == {"kind", "size", "planted", "found", "share", "median_rank"}
    assert run([*ARGUMENTS, "--format", "parquet"]) == 2


def test_the_command_draws_a_page(small, capsys, tmp_path):
    page = tmp_path / "selftest.html"
    assert run([*ARGUMENTS, "--page", str(page)]) == 0
    text = page.read_text()
    table = capsys.readouterr().out
    found = re.search(r"(\d+) of (\d+) found", table)
    assert found is not None
    assert f"Share found by kind and size: {found[1]} of {found[2]} in all" in text
    assert "the budget is 20" in text
    assert "<script" not in text
