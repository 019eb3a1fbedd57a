"""The calibration table says what is true, where, and how sure that is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from anomaly.calibration import fit_central
from anomaly.calibration_report import Calibration, interval, on_fresh, tabulate

METRICS = ("files", "logons")
COHORTS = ("a",) * 30 + ("b",) * 20
HOURS = np.broadcast_to(np.arange(1_000) % 24, (50, 1_000))


@pytest.fixture
def true() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 1_000, 2)).astype(np.float32)


def table(deviation: np.ndarray, known: np.ndarray | None = None) -> Calibration:
    counts = np.ones(deviation.shape, dtype=bool) if known is None else known
    return tabulate(deviation, counts, METRICS, COHORTS, HOURS)


def line(found: Calibration, kind: str, group: str, side: str, promised: float):
    return next(
        row
        for row in found.rows(kind)
        if (row.group, row.side, row.promised) == (group, side, promised)
    )


def test_true_deviations_are_called_true(true):
    found = table(true)
    assert found.error < np.log10(1.5)
    assert not any(row.off for row in found.rows())
    row = line(found, "all", "all", "both", 1e-2)
    assert (row.values, row.expected) == (100_000, 1_000)
    assert row.low < 1 < row.high
    assert row.ratio == pytest.approx(1, abs=0.1)


def test_groups_share_all_values_out(true):
    found = table(true)
    for kind in ("metric", "cohort", "hour"):
        assert sum(group.values for group in found.groups if group.kind == kind) == 100_000
        upper = sum(group.upper[1] for group in found.groups if group.kind == kind)
        assert upper == line(found, "all", "all", "upper", 1e-2).observed


def test_what_is_off_is_named(true):
    true[:30, :, 1] *= 1.5  # one cohort's logons spread too far, on both sides
    found = table(true)
    off = {(row.kind, row.group) for row in found.rows() if row.off}
    assert {("cohort", "a"), ("metric", "logons")} <= off
    assert not off & {("cohort", "b"), ("metric", "files")}
    assert found.error > np.log10(1.5)


def test_one_side_is_not_laid_to_the_other(true):
    true[true > 0] *= 2
    found = table(true)
    assert line(found, "all", "all", "upper", 1e-2).off
    assert line(found, "all", "all", "lower", 1e-2).ratio == pytest.approx(1, abs=0.15)


def test_what_is_unknown_is_not_counted(true):
    known = np.ones(true.shape, dtype=bool)
    known[:, :, 1] = False
    true[:, :, 1] = 9
    found = table(true, known)
    assert [group.group for group in found.groups if group.kind == "metric"] == ["files"]
    assert found.error < np.log10(1.5)


def test_few_values_say_nothing():
    few = tabulate(
        np.full((1, 20, 1), 5, np.float32), np.ones((1, 20, 1), bool), ("m",), ("a",), None
    )
    assert not any(row.enough or row.off for row in few.rows())
    assert few.error == 0


def test_the_interval_is_clopper_and_pearsons():
    assert interval(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-4))
    assert interval(5, 10) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))
    assert interval(10, 10)[1] == 1


def test_it_travels_as_json(true):
    found = table(true)
    assert Calibration.from_records(json.loads(json.dumps(found.records()))) == found


def test_maps_are_judged_on_what_they_were_not_fitted_to():
    odds = np.random.default_rng(1).logistic(size=(50, 1_000, 2)).astype(np.float32)
    odds[:, :100, 1] = np.nan
    known = np.ones((50, 1_000), dtype=bool)
    same = on_fresh(odds, known, fit_central, METRICS, COHORTS, HOURS)
    assert same.error < np.log10(1.5)
    odds[:, 500:] *= 2
    moved = on_fresh(odds, known, fit_central, METRICS, COHORTS, HOURS)
    assert moved.error > np.log10(1.5)
    assert moved.groups[0].values == 50_000
