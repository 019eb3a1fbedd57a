"""What is worked out in a short way is what the long one gives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from anomaly import scan, twin
from anomaly.calibration import TailMap, fit_central
from anomaly.likelihoods.forecast import Families
from anomaly.peers import Group

RNG = np.random.default_rng(3)


def test_a_score_is_looked_up_in_the_rarer_tail_alone():
    central = fit_central(RNG.gumbel(0, 3, 5_000).astype(np.float32))
    scores = RNG.normal(0, 20, 20_000).astype(np.float32)
    scores[:3] = central.middle, np.nextafter(central.middle, np.float32(-np.inf)), 0
    above, below = central.upper(scores), central.lower(-scores)
    rarer = np.maximum(above, below).astype(np.float64)
    usual = np.where(above > below, -1, 1) * ndtri(10.0**-rarer)
    np.testing.assert_allclose(central(scores), usual, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("levels", [(0.0, 0.0), (0.0, 1.0)])
def test_the_middle_ends_where_one_tail_is_rarer_everywhere(levels):
    flat = [TailMap(np.array([0, 1], np.float32), np.full(2, it, np.float32)) for it in levels]
    central = type(fit_central(np.zeros(9, np.float32)))(*flat)
    assert central.middle == np.finfo(np.float32).max


def test_a_day_of_equal_slots_is_read_like_any_other():
    users, metrics, steps = 4, 2, 6
    hurdle, ones = np.array([True, False]), np.ones(metrics, np.float32)
    prior = twin.TwinPrior(
        np.full((12, metrics), 0.3, np.float32), np.zeros((12, metrics), np.float32), ones, ones,
        ones * 0, hurdle, Families.usual(("count", "gauge")),
    )  # fmt: skip
    state = twin.TwinState.empty(users, 12, metrics)
    slot = np.tile(np.arange(6, 12, dtype=np.int16), (users, 1))
    odd = slot.copy()
    odd[-1] = slot[-1, ::-1]  # the last user's day runs another way: nobody's may be a slice
    middle = RNG.normal(0, 5, (users, steps, metrics)).astype(np.float32)
    active = RNG.random(middle.shape) < 0.5
    mask = active | (RNG.random(middle.shape) < 0.5)
    for _ in range(3):
        said = [twin.forecast(state, prior, each) for each in (slot, odd)]
        after = [
            twin.learn(state, one, each, active, middle, mask, 1.0)
            for one, each in zip(said, (slot, odd), strict=True)
        ]
        for name in ("active_logit", "location", "spread"):
            assert np.array_equal(*(getattr(one, name)[:-1] for one in said))
        for name in twin.TwinState.__dataclass_fields__:
            assert np.array_equal(*(getattr(one, name)[:-1] for one in after))
        state = after[0]


def test_window_sums_add_up_what_the_window_holds():
    before, now = (RNG.normal(size=(3, steps, 2)).astype(np.float32) for steps in (9, 20))
    joined = np.concatenate([before, now], axis=1)
    sums = scan.window_sums(before, now, (1, 4, 10))
    for place, length in enumerate((1, 4, 10)):
        for step in range(20):
            part = joined[:, 9 + step + 1 - length : 9 + step + 1].sum(1)
            np.testing.assert_allclose(sums[:, step, :, place], part, atol=1e-5)


def test_a_user_stands_among_others_not_himself():
    members = RNG.random(60) < 0.5
    highest = RNG.integers(0, 9, 60).astype(np.float32)  # with ties
    group = Group.of(members, highest)
    for place in (None, *range(60)):
        others = members & (np.arange(60) != place)
        for evidence in range(10):
            share = round(100 * float(np.mean(highest[others] < evidence)), 2)
            assert group.standing(evidence, place) == share
            assert group.percentile(highest < evidence, place) == share
        assert group.others(place) == others.sum()
    assert Group.of(members & False, highest).standing(1.0, None) == 50.0
