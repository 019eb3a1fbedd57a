"""Courses of values against their own past."""

import numpy as np
import pandas as pd
import pytest

from anomaly import detect
from anomaly.settings import Settings, with_values
from anomaly.shapes import (
    LENGTHS,
    LONGEST,
    WINDOWS,
    Past,
    Yardstick,
    cross_fitted,
    joined_evidence,
    scan_courses,
)

pytestmark = pytest.mark.slow  # it scores months

DAY = 96  # steps in a round


def rounds(steps: int, seed: int = 0, metrics: int = 1) -> np.ndarray:
    """(1, steps, metrics): the same round again and again, with a little noise."""
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(steps) / DAY)[:, None] + 0.05 * rng.standard_normal(
        (steps, metrics)
    )
    return wave[None].astype(np.float32)


def after(course: np.ndarray) -> Past:
    return scan_courses(course, Past.empty(1, course.shape[2]))[2]


def arrays(past: Past) -> list[np.ndarray]:
    return [past.last, past.windows, past.ends, past.stride, past.steps]


@pytest.mark.parametrize("at", [300, 500, 767])
def test_a_change_of_course_stands_out_wherever_it_lies(at):
    month = rounds(768, seed=1)
    month[0, at - 60 : at] = 0.3  # a value it takes many times a day, but never stays at
    evidence, judged, _ = scan_courses(month, after(rounds(1_536)))
    assert judged.all()
    assert evidence[0, at - 60 : at].max() > 2 * np.delete(
        evidence[0], np.r_[max(0, at - 60 - LONGEST) : min(768, at + LONGEST)]
    ).max(initial=0)
    assert abs(int(evidence[0].argmax()) - (at - 30)) < LENGTHS[4]


def test_a_new_level_stands_out_too():
    month = rounds(768, seed=1)
    month[0, 400:420] += 3
    evidence, _, _ = scan_courses(month, after(rounds(1_536)))
    assert 390 < int(evidence[0].argmax()) < 430


def test_more_of_the_same_does_not():
    usual, _ = cross_fitted(rounds(1_536))
    evidence, _, _ = scan_courses(rounds(768, seed=1), after(rounds(1_536)))
    assert evidence.max() < 1.5 * usual.max()


def test_what_comes_later_moves_no_earlier_window():
    past, month = after(rounds(1_536)), rounds(768, seed=1)
    whole, _, _ = scan_courses(month, past)
    month[0, 500:] = 5
    changed, _, _ = scan_courses(month, past)
    assert np.array_equal(whole[0, : 500 - LONGEST], changed[0, : 500 - LONGEST])


@pytest.mark.parametrize("cut", [7, 700, 1_200])
def test_the_past_is_the_same_at_once_or_in_parts(cut):
    course = rounds(3_000)
    parts = scan_courses(course[:, cut:], after(course[:, :cut]))[2]
    for one, other in zip(arrays(after(course)), arrays(parts), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_no_more_windows_are_remembered_than_there_is_room_for():
    past = after(rounds(9_000))
    kept = (past.ends >= 0).sum(-1)
    assert (kept <= WINDOWS).all()
    assert (kept > WINDOWS / 4).all()
    assert past.ends.max() > 8_900  # the latest are among them


def test_without_a_past_nothing_is_said():
    evidence, judged, _ = scan_courses(rounds(768), Past.empty(1, 1))
    assert not judged.any()
    assert not evidence.any()
    alone = np.full((1, 768), 3, np.float32)
    assert np.array_equal(joined_evidence(alone, evidence, judged, 1), alone)


def test_unknown_values_are_no_course():
    past, month = after(rounds(1_536)), rounds(768, seed=1)
    month[0, 300:600] = np.nan
    evidence, _, learnt = scan_courses(month, past)
    assert np.isfinite(evidence).all()
    assert evidence[0, 350:550].max() < 0.01
    assert np.isfinite(learnt.windows).all()


def test_many_metrics_keep_their_distances_in_few_numbers():
    past = after(rounds(1_536, metrics=20))
    month = rounds(768, seed=1, metrics=20)
    month[0, 400:440, 3:8] = 0.3
    evidence, _, _ = scan_courses(month, past)
    assert 380 < int(evidence[0].argmax()) < 460


def test_two_values_that_never_went_together_stand_out_at_once():
    """Each is usual and lies where it must, and only for one step."""
    times = 2 * np.pi * np.arange(3 * 768) / DAY
    rng = np.random.default_rng(0)
    course = np.stack([np.sin(times), np.cos(times)], axis=-1) + 0.02 * rng.standard_normal(
        (len(times), 2)
    )
    course[2_000] = 0.0  # the middle of a circle
    course = course[None].astype(np.float32)
    evidence, _, _ = scan_courses(course[:, 1_536:], after(course[:, :1_536]))
    at = 2_000 - 1_536
    assert evidence[0, at] > 1.2 * np.delete(evidence[0], [at - 1, at, at + 1]).max()


def test_a_flat_metric_has_a_yardstick():
    values = np.full((1, 100, 2), 7, np.float32)
    values[0, :, 1] = 0
    yardstick = Yardstick.fit(values, np.ones(values.shape, dtype=bool))
    course = yardstick.course(values + 1, np.ones(values.shape, dtype=bool))
    assert np.isfinite(course).all()
    assert (course > 1).all()


def series(change: slice) -> pd.DataFrame:
    times = pd.date_range("2026-01-01", periods=30 * DAY, freq="15min", tz="UTC")
    values = 50 + 20 * rounds(len(times))[0, :, 0]
    values[change] = 56
    return pd.DataFrame(
        {"user_id": "pump", "metric": "pressure", "observed_at": times, "value": values}
    )


@pytest.fixture(scope="module")
def settings() -> Settings:
    return with_values(Settings(), "test", "model", cell="none")


def test_a_course_is_flagged_where_no_single_value_is_odd(settings):
    changed = slice(25 * DAY + 10, 25 * DAY + 70)
    frame = series(changed)
    found = detect(frame, "2026-01-22", settings)
    first = found.flags.iloc[0]
    times = frame["observed_at"].iloc[changed]
    assert first["start"] <= times.iloc[-1]
    assert first["end"] > times.iloc[0]
    assert found.scores.loc[found.scores["score"].idxmax(), "score"] == pytest.approx(
        first["score"]
    )


def test_no_part_of_a_stretch_told_by_its_course_is_left_out(settings):
    """Its ends are as odd as its middle, however loud the deviations there are."""
    changed = slice(25 * DAY + 10, 27 * DAY + 10)
    frame = series(changed)
    frame.loc[changed.start : changed.stop - 1, "value"] += 8 + np.arange(2 * DAY) % 7
    found = detect(frame, "2026-01-22", settings)
    times = frame["observed_at"].iloc[changed]
    inside = found.scores.set_index("observed_at").loc[times.iloc[0] : times.iloc[-1], "score"]
    assert (inside >= 1).all()


def test_courses_can_be_left_out(settings):
    frame = series(slice(0, 0))
    without = detect(frame, "2026-01-22", with_values(settings, "test", "scan", courses=False))
    assert not without.model.looking.courses
    assert without.model.yardstick.place.size == 0
