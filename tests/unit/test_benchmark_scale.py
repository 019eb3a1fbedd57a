"""What the benchmark of scale is made of: rows that do not depend on how many there are."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from anomaly.months import Month
from benchmarks.scale import made
from benchmarks.scale.peers import average_precision

MONTH = Month.parse("2026-02")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(made, "BLOCK_USERS", 4)
    monkeypatch.setattr(made, "GROUP_USERS", 2)


def test_more_users_change_nothing_for_those_already_there(small, tmp_path):
    for users in (4, 8):
        made.write(tmp_path / str(users), users, MONTH, 1, incidents=True)
    name = f"month={MONTH}/part-00000.parquet"
    few, many = (pq.read_table(tmp_path / users / name) for users in ("4", "8"))
    assert few.equals(many)
    assert len(few) == 4 * 28 * 24 * len(made.METRICS)
    assert len(list((tmp_path / "8").rglob("*.parquet"))) == 2


def test_incidents_are_told_of_and_lie_in_the_rows(small, monkeypatch, tmp_path):
    monkeypatch.setattr(made, "INCIDENT_SHARE", 1.0)
    attacked = made.write(tmp_path, 4, MONTH, 1, incidents=True)
    quiet = made.block(0, MONTH, 1, incidents=False)
    loud = made.block(0, MONTH, 1, incidents=True)
    assert [user for user, _, _ in attacked] == list(quiet.users)
    assert (loud.odd.sum(1) == made.INCIDENT_HOURS).all()
    assert (loud.values[loud.odd].sum(0) >= quiet.values[loud.odd].sum(0)).any()


def test_average_precision_is_that_of_the_books():
    scores, truth = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
