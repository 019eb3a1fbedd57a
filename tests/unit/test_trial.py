"""Who serves: the network only where it earns its place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anomaly import engine
from anomaly.exceptions import DataError
from anomaly.reading import log_likelihood
from anomaly.trial import Showing, better, choose, lay, trial_from
from tests.fixtures.behaviour import SPECS, UTC, hourly_panel, score_after, small_settings

pytestmark = pytest.mark.slow  # it fits models


def showing(version: str, likelihood: float | None, found: int, planted: int = 10) -> Showing:
    cell = "none" if version.startswith("t") else "lstm"
    return Showing(version, cell, likelihood, planted, found, 0, 20)


CASES = {
    "better in both": (("n", -1.0, 5), ("t", -1.1, 5), None, "n"),
    "no better a forecast": (("n", -1.1, 9), ("t", -1.1, 5), None, "t"),
    "finds less": (("n", -1.0, 4), ("t", -1.1, 5), None, "t"),
    "a reconstruction is judged by what it finds": (("n", None, 5), ("t", -1.1, 5), None, "n"),
    "nothing finite": (("n", float("nan"), 9), ("t", -1.1, 5), None, "t"),
    "nothing could be planted": (("n", -1.0, 0, 0), ("t", -1.1, 0, 0), None, "n"),
    "beats the champion too": (("n", -1.0, 6), ("t", -1.1, 5), ("c", -1.05, 6), "n"),
    "the champion finds more": (("n", -1.0, 5), ("t", -1.1, 5), ("c", -1.05, 6), "c"),
    "the champion has aged below the twin": (("n", -1.2, 5), ("t", -1.1, 5), ("c", -1.15, 9), "t"),
    "a new twin is worse than the champion": (("t2", -1.1, 5), None, ("c", -1.0, 5), "c"),
    "a new twin is better than the champion": (("t2", -1.0, 5), None, ("c", -1.1, 5), "t2"),
}


@pytest.mark.parametrize("name", CASES)
def test_who_serves(name):
    candidate, twin, champion, serves = CASES[name]
    choice = choose(showing(*candidate), twin and showing(*twin), champion and showing(*champion))
    assert choice.version == serves
    assert f" {serves} serves" in choice.reason


def test_a_reason_says_by_how_much():
    reason = choose(showing("n", -1.0, 4), showing("t", -1.1, 5), None).reason
    assert reason == (
        "the twin t serves: network n finds 4 of 10 planted incidents, the twin t 5 of 10"
    )
    reason = choose(showing("n", -1.0, 6), showing("t", -1.1, 5), None).reason
    assert reason == (
        "network n serves (-1.0000 nats per value, 6 of 10 planted incidents found), better than "
        "the twin t (-1.1000 nats per value, 5 of 10 planted incidents found)"
    )


def test_a_trial_lies_in_what_training_has_not_seen(history):
    grid = history.grid  # two months: January and February
    assert trial_from(grid, "UTC") > len(grid) * 0.7
    year = hourly_panel(1, "2026-01-01", "2026-07-01").grid
    assert year.times[trial_from(year, "UTC")] == 1780272000  # 1 June


def test_a_trial_s_incidents_are_the_same_for_the_same_seed(history):
    cut = trial_from(history.grid, "UTC")
    one, same, other = (lay(history, cut, SPECS, seed) for seed in (3, 3, 4))
    assert one.planted == same.planted != other.planted
    assert len(one.planted) == 12
    assert np.array_equal(one.touched.values, same.touched.values)
    assert not np.array_equal(one.before.values[:, -1], one.month.values[:, 0])
    with pytest.raises(DataError, match="leaves nothing before or after it"):
        lay(history, 0, SPECS, 3)


@pytest.fixture(scope="module")
def showings(history, small_model):
    trial = lay(history, trial_from(history.grid, "UTC"), SPECS, 3)
    twin = engine.fit(history, SPECS, UTC, small_settings(cell="none"), seed=3)
    return [engine.examine(model, trial, UTC) for model in (small_model, twin)], twin, trial


def test_models_are_examined_alike(showings, small_model):
    (network, twin), model, trial = showings
    assert (network.version, twin.version) == (small_model.version, model.version)
    assert (network.cell, twin.cell) == ("lstm", "none")
    assert 0 < twin.found <= twin.planted <= len(trial.planted)
    # a trial that is all of later history measures what the summary does, from the same memory
    assert twin.likelihood == pytest.approx(model.summary.likelihood, abs=1e-4)
    assert network.likelihood == pytest.approx(small_model.summary.likelihood, abs=1e-2)
    assert engine.examine(model, trial, UTC) == twin


def test_a_model_that_says_nothing_finite_never_serves(showings, small_model):
    (_, twin), model, trial = showings
    centre = model.prior.rate * np.nan
    broken = engine.replace(model, prior=engine.replace(model.prior, rate=centre))
    with np.errstate(all="ignore"):
        silent = engine.examine(broken, trial, UTC)
    assert choose(silent, twin, None).version == twin.version


def test_one_giant_does_not_decide_a_likelihood(small_model, history, month):
    usual = score_after(small_model, history, month).reading.forecast()
    values = month.values.copy()
    values[0, 300, 0] = 1e30
    odd = dataclasses.replace(month, values=values)
    before, after = (log_likelihood(usual, panel, small_model.links) for panel in (month, odd))
    assert before - 20 / month.mask.sum() <= after < before


def test_a_month_says_who_would_have_been_better():
    assert better(showing("n", -1.0, 5), showing("t", -1.1, 5)).startswith("The network would")
    assert better(showing("n", -1.2, 5), showing("t", -1.1, 5)).startswith("The twin would")
    mixed = better(showing("n", -1.0, 4), showing("t", -1.1, 5))
    assert mixed.startswith("Neither was better in both: the network finds 4 of 10")
