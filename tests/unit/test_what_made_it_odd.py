"""Of a window: which metrics carry it, and which steps."""

import numpy as np
import pytest

from anomaly.explain import blame, shares
from anomaly.flags import Window, cores

HOUR, DAY = 3_600, 86_400
STEPS, METRICS = 96, 4


@pytest.fixture
def usual():
    """Four days of hours in which nothing happens."""
    return np.random.default_rng(5).standard_normal((STEPS, METRICS)).astype(np.float32)


def core(joint: np.ndarray, step: int = HOUR) -> tuple[int, int]:
    first = next(iter(cores(Window(0, len(joint), 1.0), shares(joint, step))))
    return first.first, first.last


def test_a_burst_of_hours_is_not_drowned_by_days_around_it(usual):
    usual[40:45, 1] = 6
    assert 1 in blame(usual)
    assert core(usual) == (40, 45)


def test_what_is_small_and_does_not_end_is_told_whole(usual):
    usual[:, 2] += 0.9
    first, last = core(usual)
    assert blame(usual)[0] == 2
    assert first <= 14
    assert last >= STEPS - 14


def test_days_that_go_on_after_a_burst_stay_with_it(usual):
    usual[10:13, 0] = 6
    usual[13:70, 0] += 1.5
    first, last = core(usual)
    assert first <= 10
    assert 55 <= last <= 72


def test_a_lack_is_as_odd_as_an_excess(usual):
    usual[60:70, 3] = -5
    assert blame(usual)[0] == 3
    assert core(usual) == (60, 70)


def test_the_other_side_of_a_metric_brings_nothing():
    joint = np.zeros((10, 1), np.float32)
    joint[2:5], joint[8] = 4, -4
    brought = shares(joint, DAY)
    assert brought[8] == 0
    assert (brought[2:5] > 0).all()


def test_a_window_of_one_step_and_one_of_nothing_are_whole():
    assert core(np.full((1, METRICS), 3, np.float32)) == (0, 1)
    assert core(np.zeros((6, METRICS), np.float32)) == (0, 6)
