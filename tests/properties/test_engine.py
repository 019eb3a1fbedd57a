"""What must hold of every month, whatever is in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly import engine
from anomaly.panel import Panel
from tests.fixtures.behaviour import (
    SPECS,
    UTC,
    hourly_panel,
    lived,
    score_after,
    score_parts,
    small_settings,
)


def changed(panel: Panel, user: int, first: int, last: int, factor: float) -> Panel:
    values = panel.values.copy()
    values[user, first:last] = values[user, first:last] * factor + 50
    return replace(panel, values=values)


def told(scored: engine.Scored) -> tuple[object, ...]:
    return scored.flags, scored.scores.tobytes(), scored.p_values.tobytes()


@pytest.fixture(scope="module")
def usual(small_model, history, month) -> engine.Scored:
    return score_after(small_model, history, month)


@settings(max_examples=8, deadline=None)
@given(user=st.integers(0, 23), day=st.integers(2, 29), factor=st.floats(0, 30))
def test_what_happens_later_changes_no_forecast(
    small_model, history, month, usual, user, day, factor
):
    """The forecast of a day is made from the days before it: changing a day leaves it alone."""
    after = score_after(small_model, history, changed(month, user, day * 24, 744, factor))
    upto = np.s_[:, : day * 24]
    for name in ("active_logit", "location", "spread"):
        assert np.array_equal(
            getattr(usual.reading.forecast(), name)[upto],
            getattr(after.reading.forecast(), name)[upto],
        )


def test_the_same_history_and_seed_give_the_same_model_and_another_seed_another(history):
    part = history.take(np.arange(6)).between(0, 28 * 24)
    one, again, other = (
        engine.fit(part, SPECS, UTC, small_settings(), seed=seed) for seed in (3, 3, 4)
    )
    assert again.to_files() == one.to_files()
    assert again.version == one.version != other.version


def test_scoring_changes_neither_model_nor_calibration(small_model, history, month):
    before = small_model.to_files()
    score_after(small_model, history, month)
    assert small_model.to_files() == before


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(24)))
def test_the_order_of_users_changes_nothing(small_model, history, month, usual, order):
    (other,) = score_parts(small_model, history, month, [order])
    back = np.argsort(order)
    assert np.array_equal(other.scores[back], usual.scores)
    assert sorted(other.flags, key=lambda f: f.flag_id) == sorted(
        usual.flags, key=lambda f: f.flag_id
    )


@pytest.mark.parametrize("size", [1, 5, 23])
def test_the_size_of_shards_changes_nothing(small_model, history, month, usual, size):
    parts = [range(first, min(first + size, 24)) for first in range(0, 24, size)]
    scored = score_parts(small_model, history, month, parts)
    for rows, part in zip(parts, scored, strict=True):
        assert np.array_equal(part.scores, usual.scores[rows])
        assert np.array_equal(part.p_values, usual.p_values[rows])


def test_replaying_month_by_month_equals_replaying_at_once(small_model, history):
    base, once = lived(small_model, history)
    steps = engine.States.empty(small_model, history.users)
    for first, last in engine.months_of(small_model, history):
        part = history.between(first, last)
        steps = engine.replay(small_model, part, steps, base, UTC)
        steps = engine.States.unpack(small_model, steps.users, steps.pack())
    assert steps.pack() == once.pack()


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_scores_are_finite_and_flags_hold_what_they_promise(small_model, history, data):
    month = hourly_panel(24, "2026-03-01", "2026-03-15", seed=7)
    user = data.draw(st.integers(0, 23))
    first = data.draw(st.integers(0, 300))
    values = month.values.copy()
    values[user, first : first + data.draw(st.integers(1, 36))] = data.draw(
        st.sampled_from([0.0, 1.0, 1e3, 1e9, 3e38])
    )
    scored = score_after(small_model, history, replace(month, values=values))
    assert np.isfinite(scored.scores).all()
    assert (scored.p_values > 0).all()
    assert (scored.p_values <= 1).all()
    held = np.zeros(scored.scores.shape, dtype=bool)
    for flag in scored.flags:
        row = scored.users.index(flag.user_id)
        inside = (scored.times >= flag.start.timestamp()) & (scored.times < flag.end.timestamp())
        assert scored.scores[row, inside].max() >= 1
        assert all(
            np.isfinite(getattr(flag, name))
            for name in ("observed", "expected", "lower", "upper", "p_value", "score")
        )
        assert flag.lower <= flag.expected <= flag.upper
        held[row] |= inside
    assert not ((scored.scores >= 1) & ~held).any()


def test_more_of_an_incident_is_never_less_surprising(small_model, history, month):
    highest = []
    for size in (0, 20, 60, 200, 1_000):
        values = month.values.copy()
        values[5, 241:245, 0] += size
        scored = score_after(small_model, history, replace(month, values=values))
        highest.append(float(scored.scores[5, 241:245].max()))
    # Where surprise can hardly rise any more, the head that looks at the step moves the last digits.
    assert all(more > less - 0.001 for less, more in pairwise(highest))
    assert highest[-1] > 1
