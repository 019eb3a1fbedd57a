"""`[scan]`: each part of the scan can be switched off, and then it is off."""

from dataclasses import replace

import numpy as np
import pytest

from anomaly import engine, scan
from anomaly.panel import Panel
from anomaly.scanning import chunk_deviations
from anomaly.settings import ScanSettings
from tests.fixtures.behaviour import SPECS, UTC, hourly_panel, score_after, small_settings

pytestmark = pytest.mark.slow  # it scores months


def fitted(history: Panel, **switches) -> engine.Model:
    settings = small_settings(cell="none").model_copy(update={"scan": ScanSettings(**switches)})
    return engine.fit(history, SPECS, UTC, settings, seed=3)


@pytest.fixture(scope="module")
def usual(history):
    return fitted(history)


@pytest.mark.parametrize(
    "switches",
    [{"windows": False}, {"own_history": False}, {"common_shock": False}]
    + [{"combine": way} for way in ("highest", "loud", "steady")],
    ids=str,
)
def test_a_switch_changes_scores_and_is_saved_with_the_model(history, month, usual, switches):
    model = fitted(history, **switches)
    again = engine.Model.from_files(model.to_files())
    assert again.looking == model.looking == scan.Looking(**switches)
    scores = score_after(again, history, month).scores
    assert np.isfinite(scores).all()
    assert not np.array_equal(scores, score_after(usual, history, month).scores)


def test_without_windows_a_day_is_looked_at_step_by_step(history, usual):
    assert fitted(history, windows=False).lengths == (1,)
    assert usual.lengths == scan.window_lengths(3_600)


def test_without_own_history_equal_sums_are_equally_unusual(usual):
    rng = np.random.default_rng(0)
    joint = np.repeat(rng.normal(size=(1, 48, 2)).astype(np.float32), 2, axis=0)
    states = engine.States.empty(usual, ("a", "b"))
    busy = scan.Moments(np.array([0, 90], np.float32), states.own.mean + 5, states.own.square + 26)
    states = replace(states, own=busy)
    known = np.ones((2, 48), bool)
    for own_history in (True, False):
        (chunk,) = chunk_deviations(
            joint, known, [(0, 48)], 3_600, states, usual.directions, usual.lengths, usual.usual,
            own_history,
        )  # fmt: skip
        a, b = chunk.deviation
        assert np.array_equal(a, b) == (not own_history)


def test_what_hits_everyone_is_left_in_only_where_asked(history, usual):
    shaken = hourly_panel(24, "2026-03-01", "2026-04-01")
    shaken.values[:, 300:320] += 20
    for model, taken in ((usual, True), (fitted(history, common_shock=False), False)):
        states = engine.States.empty(model, shaken.users)
        assert engine.reference(model, shaken, states, UTC).common.any() == taken


def test_ways_are_combined_as_named():
    surprise = np.array([[[[1.0, 3.0], [2.0, 6.0]]]], np.float32)
    found = {
        way: scan.evidence(surprise, (1, 1), 86_400, way).item()
        for way in ("mean", "highest", "loud", "steady")
    }
    assert found == {"mean": 3.0, "highest": 6.0, "loud": 2.0, "steady": 4.0}


def test_a_lack_of_steadiness_does_not_speak_for_a_loud_hour():
    loud = np.array([4.0, 0.0], np.float32)
    found = [
        scan.evidence(np.array([[[loud, [steady, steady]]]], np.float32), (1, 1), 86_400).item()
        for steady in (0.0, 0.4, 0.5, 2.0)
    ]
    assert found == [1.25, 1.25, 1.25, 2.0]


def test_a_day_counts_most_and_machines_have_no_days():
    hourly = scan.length_weights(3_600, scan.window_lengths(3_600))
    daily = scan.length_weights(86_400, scan.window_lengths(86_400))
    fine = scan.length_weights(300, scan.window_lengths(300))
    assert hourly.argmax() == 2
    assert (np.diff(daily) < 0).all()
    assert np.ptp(fine) == 0
    assert [weights.sum() for weights in (hourly, daily, fine)] == pytest.approx([1, 1, 1])


def test_a_busy_day_is_not_as_loud_as_one_odd_hour():
    """Each hour a little high, in each metric; on a grid of days the same says something."""
    busy = np.full((1, 24, 3), 1.6, np.float32)
    odd = np.zeros_like(busy)
    odd[0, 3, 1] = 5
    hours = [scan.seen_at(day, 3_600)[0, :, scan.LOUD].sum() for day in (busy, odd)]
    assert hours[0] == 0
    assert hours[1] > 5
    assert scan.seen_at(busy, 86_400)[0, 0, scan.LOUD] > 0.5


@pytest.mark.parametrize("step", [60, 86_400])
def test_a_single_value_by_the_minute_or_the_day_has_no_floor(step):
    alone = np.full((1, 1, 1), 0.5, np.float32)
    assert scan.seen_at(alone, step)[0, 0, scan.LOUD] == pytest.approx(0.25)
