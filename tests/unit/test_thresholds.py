"""Each way of choosing where flags begin keeps what it promises where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_ndtr

from anomaly import flags, scan
from anomaly.exceptions import SettingsError
from anomaly.settings import Settings, ThresholdSettings, with_values
from anomaly.thresholds import dynamic, fdr, tail
from anomaly.thresholds.blocks import Gumbel, maxima
from anomaly.thresholds.choice import choose

HOUR, DAY = 3_600, 86_400
MONTH = 730


def noise(users: int, steps: int, lengths=(1, 6, 24, 72, 168), seed: int = 0) -> np.ndarray:
    """Evidence where nothing happens: true tails of window sums of white noise, seen in two ways."""
    rng = np.random.default_rng(seed)
    lead = max(lengths)
    surprise = np.zeros((users, steps, scan.VIEWS, len(lengths)), np.float32)
    for view in range(scan.VIEWS):
        drawn = rng.standard_normal((users, steps + lead), dtype=np.float32)
        sums = scan.window_sums(drawn[:, :lead, None], drawn[:, lead:, None], lengths)[:, :, 0]
        surprise[:, :, view] = -log_ndtr(-sums / np.sqrt(np.array(lengths))) / np.log(10)
    return scan.evidence(surprise, lengths, 3_600)


def clusters(evidence: np.ndarray, level: float) -> int:
    return len(tail.cluster_peaks(evidence, level))


def seen(evidence: np.ndarray) -> np.ndarray:
    return np.ones(evidence.shape, dtype=bool)


@pytest.fixture(scope="module")
def fresh() -> np.ndarray:
    """2,000 user-months to count false flags on."""
    return noise(2_000, MONTH, seed=99)


@pytest.mark.parametrize("settings", [ThresholdSettings(), ThresholdSettings(kind="budget")])
def test_the_budget_is_kept_within_half_as_much_again(settings, fresh):
    per_1000 = [
        clusters(fresh, choose(settings, later, seen(later), HOUR).level) / 2
        for later in (noise(300, 552, seed=seed) for seed in range(3))
    ]
    assert 20 / 1.5 <= np.mean(per_1000) <= 20 * 1.5


def test_the_budget_is_not_exceeded_on_days():
    lengths = (1, 2, 3, 7, 14, 28)  # windows as long as the month: the law is carried on too high
    later = noise(600, 90, lengths, seed=5)
    level = choose(ThresholdSettings(), later, seen(later), DAY).level
    months = noise(3_000, 30, lengths, seed=6)
    assert 4 <= clusters(months, level) / 3 <= 20 * 1.5


def test_incidents_in_history_hardly_move_the_budget():
    clean = noise(300, 552)
    dirty = clean.copy()
    dirty[::20, 100:150] += 20  # one user in twenty
    levels = [
        choose(ThresholdSettings(), found, seen(found), HOUR).level for found in (clean, dirty)
    ]
    assert levels[1] - levels[0] == pytest.approx(0, abs=0.25)


def test_a_larger_budget_flags_more_and_users_may_come_in_any_order():
    later = noise(100, 552)
    wide = ThresholdSettings(false_flags_per_1000_user_months=200.0)
    strict = choose(ThresholdSettings(), later, seen(later), HOUR)
    assert choose(wide, later, seen(later), HOUR).level < strict.level
    assert choose(ThresholdSettings(), later[::-1], seen(later), HOUR) == strict


def test_steps_of_the_absent_count_for_nothing():
    later, there = noise(100, 552), np.ones((100, 552), dtype=bool)
    there[:50, 20:] = False
    ghosts = np.where(there, later, np.float32(40))
    settings = ThresholdSettings()
    assert choose(settings, ghosts, there, HOUR).level == pytest.approx(
        choose(settings, later[50:], there[50:], HOUR).level, abs=0.3
    )


@pytest.mark.parametrize("correction", ["bh", "by"])
def test_the_share_of_false_discoveries_is_kept(correction):
    shares = []
    for seed in range(4):
        later = noise(400, 504, seed=seed)
        later[::10, 200:208] += 9  # every tenth user, once
        level = fdr.level(later, seen(later), HOUR, 0.1, correction)
        found = maxima(later, seen(later), 168).reshape(400, 3) >= level
        real = np.zeros((400, 3), dtype=bool)
        real[::10, 1] = True
        assert found[real].all()
        shares.append((found & ~real).sum() / found.sum())
    # A window of a week reaches into the next block, so that a few false ones lie beside real ones.
    assert np.mean(shares) <= 0.1 * 1.5


def test_any_dependence_asks_for_more():
    later = noise(200, 504)
    later[::10, 200:208] += 9
    levels = [fdr.level(later, seen(later), HOUR, 0.1, how) for how in ("bh", "by")]
    assert levels[0] < levels[1]
    assert fdr.harmonic(3) == pytest.approx(1 + 1 / 2 + 1 / 3)


def test_without_discoveries_a_single_one_must_pass():
    later = np.minimum(noise(200, 504), 4.0)
    found = maxima(later, seen(later), 63)
    null = Gumbel.fit(found)
    level = fdr.level(later, seen(later), HOUR, 0.1, "bh")
    assert null.exceeded(np.array([level]))[0] == pytest.approx(0.1 / len(found))


def test_a_few_series_flag_about_once_a_year():
    flagged = [
        clusters(noise(20, 8_766, seed=seed + 50), choose(ThresholdSettings(), later, seen(later), HOUR).level)
        for seed, later in ((seed, noise(4, 2_190, seed=seed)) for seed in range(4))
    ]  # fmt: skip
    assert 20 / 3 <= np.mean(flagged) <= 20 * 3  # a quarter of a year of four series tells no more


def test_one_series_by_the_minute_is_given_a_level_it_can_reach():
    lengths = (1, 4, 16, 60, 240)
    later = noise(1, 1_000, lengths)
    faulty = later.copy()
    faulty[0, 500:520] += 25
    level = choose(ThresholdSettings(), later, seen(later), 60).level
    assert later.max() * 0.8 < level < 5
    assert choose(ThresholdSettings(), faulty, seen(faulty), 60).level < level + 1


def test_the_tail_follows_the_law_it_is_shown():
    drawn = np.random.default_rng(0).exponential(0.5, 20_000)
    scale, shape = tail.fit_pareto(drawn, 0.5)
    assert (scale, shape) == (pytest.approx(0.5, rel=0.05), pytest.approx(0, abs=0.05))
    heavy = (np.random.default_rng(0).random(20_000) ** -0.15 - 1) / 0.15
    assert tail.fit_pareto(heavy, 1.0)[1] == pytest.approx(0.15, abs=0.05)


def test_the_dynamic_cut_lies_below_what_stands_out():
    series = np.random.default_rng(0).normal(1, 0.1, 2_000)
    series[700:720] = 5
    at = dynamic.cut(series)
    assert series[700:720].min() > at > np.delete(series, np.s_[700:720]).max()


def test_one_users_incident_does_not_move_the_dynamic_level():
    later = noise(21, 552)
    struck = later.copy()
    struck[0, 100:150] += 20
    assert dynamic.level(struck, seen(struck)) == pytest.approx(
        dynamic.level(later, seen(later)), abs=0.3
    )


def selected(evidence: np.ndarray, level: float, prune: float) -> list[int]:
    """Where flags begin that are neither cut nor refused."""
    found = flags.select(evidence, level, lambda window: [window], lambda window: True, prune)
    return [window.first for window in found]


def test_dynamic_flags_that_hardly_stand_out_are_pruned():
    evidence = np.full(60, 4.0, np.float32)
    for at, height in ((10, 9.0), (30, 8.9), (50, 4.2)):
        evidence[at] = height
    assert selected(evidence, 4.1, 0.0) == [10, 30, 50]
    assert selected(evidence, 4.1, dynamic.PRUNE) == [10, 30]


def test_pruning_may_leave_nothing():
    evidence = np.linspace(4, 4.4, 40, dtype=np.float32)
    assert selected(evidence, 4.3, dynamic.PRUNE) == []


@pytest.mark.parametrize("kind", ["budget", "fdr", "tail", "dynamic"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_evidence_that_never_changes_gives_a_level_above_it(kind, value):
    still = np.full((30, 100), value, np.float32)
    level = choose(ThresholdSettings(kind=kind), still, seen(still), HOUR).level
    assert np.isfinite(level)
    assert level >= value


def test_an_unknown_correction_is_refused():
    with pytest.raises(SettingsError, match="correction"):
        with_values(Settings(), "test", "threshold", kind="fdr", correction="bonferroni")
