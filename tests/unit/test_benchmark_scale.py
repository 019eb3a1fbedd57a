"""What the benchmark of scale is made of: rows that do not depend on how many there are."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from anomaly.months import Month
from benchmarks.scale import made, world
from benchmarks.scale.peers import average_precision
from benchmarks.scale.shares import OTHER, PARTS, part_of, shared_out

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


def test_a_panel_holds_what_the_files_hold(small, monkeypatch, tmp_path):
    monkeypatch.setattr(made, "INCIDENT_SHARE", 0.5)
    attacked = made.write(tmp_path, 8, world.MONTH, world.SEED, incidents=True)
    panel = world.panel_of(2, 5, [*world.HISTORY, world.MONTH], incidents=True)
    assert panel.users == tuple(f"user-{number:07d}" for number in range(2, 7))
    rows = pq.read_table(tmp_path / f"month={world.MONTH}/part-00001.parquet").to_pandas()
    mine = rows[rows.user_id == "user-0000004"].value.to_numpy().reshape(-1, len(made.METRICS))
    assert (panel.values[2, -len(mine) :] == mine.astype(np.float32)).all()
    assert len(panel.grid) == (31 + 28 + 31) * 24
    names = [f"user-{place:07d}" for place in np.flatnonzero(world.attacked_of(8))]
    assert names == [user for user, _, _ in attacked]


def test_time_is_shared_out_by_the_first_part_that_a_stack_names():
    within = "score (anomaly/engine.py:240)"
    network = f"{within};read (anomaly/reading.py:162);read (anomaly/networks/runtime.py:80)"
    flag = "flag (anomaly/telling.py:172);log_odds (anomaly/surprise.py:20)"
    tails = f"{within};log_odds (anomaly/surprise.py:20);upper (anomaly/likelihoods/law.py:9)"
    waits = f"{within};Condition.wait (threading.py:331)"
    found = shared_out([f"{waits} 9", f"{network} 5", f"{flag} 2", f"{tails} 2", f"{within} 1"])
    assert list(found.values()) == pytest.approx([0.5, 0.2, 0.2, 0.1])
    assert found[part_of(network)] == 0.5
    assert part_of(flag) != part_of(tails)
    assert part_of(within) == OTHER
    assert set(found) - {OTHER} <= set(PARTS)
