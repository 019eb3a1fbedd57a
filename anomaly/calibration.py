"""Makes tail probabilities true: what a score exceeds in history says how rare it is.

Inside the sample the empirical distribution, beyond it an exponential tail fitted to the excesses
over a high level (peaks over threshold: Pickands 1975; Siffer et al. 2017). The level lies so high
that what is rare but usual is counted, not extrapolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

if TYPE_CHECKING:
    from numpy.typing import NDArray

KNOTS_PER_DECADE = 12  # of probability, inside the sample
CENTRE = np.linspace(0, 1, 32)  # quantiles that are knots, so that the middle is followed too
TAIL_SHARE = 5e-4  # the excesses that the tail is fitted to ...
TAIL_LEAST = 30  # ... or so many of the highest values, where the sample is small
TAIL_KNOTS = 24
DEEPEST = 60.0  # surprise ends here: 1e-60
LEAST_EXCESS = 1e-3
FURTHEST = np.finfo(np.float32).max
LN10 = float(np.log(10))


@dataclass(frozen=True, slots=True)
class TailMap:
    """Maps a score to -log10 P(score is reached), by linear interpolation between knots.

    scores: (knots,) float32 rising; surprise: (knots,) float32, 0 at the lowest.
    """

    scores: NDArray[np.float32]
    surprise: NDArray[np.float32]

    def __call__(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """-log10 of the upper tail probability, same shape, float32, in [0, DEEPEST]."""
        return np.interp(score, self.scores, self.surprise).astype(np.float32)


def fit_tail(sample: NDArray[np.float32]) -> TailMap:
    """Fit a map to scores of history, most of which is normal. Ties count half (mid-p)."""
    rising = np.sort(sample[np.isfinite(sample)].astype(np.float64))
    n = len(rising)
    if n == 0:
        return TailMap(np.array([0, 1], dtype=np.float32), np.zeros(2, dtype=np.float32))
    beyond = min(max(int(n * TAIL_SHARE), TAIL_LEAST), max(n // 4, 1))
    level = rising[n - beyond]
    decades = np.log10(n / beyond)
    counts = beyond * np.logspace(0, decades, max(2, int(KNOTS_PER_DECADE * decades)))
    ranked = rising[np.clip(n - counts.astype(np.int64), 0, n - beyond)]
    at = np.unique(np.concatenate([ranked, np.quantile(rising[: n - beyond + 1], CENTRE)]))
    reached = (
        n
        - (np.searchsorted(rising, at, side="left") + np.searchsorted(rising, at, side="right")) / 2
    )
    inside = -np.log10(np.clip((reached + 0.5) / (n + 1), 1e-60, 1))
    rate = _excess_rate(rising[n - beyond :] - level)
    further = np.linspace(0, (DEEPEST - inside[-1]) * LN10 / rate, TAIL_KNOTS)[1:]
    scores = np.concatenate([at, level + further])
    surprise = np.concatenate([inside, inside[-1] + further * rate / LN10])
    return TailMap(scores.astype(np.float32), np.maximum.accumulate(surprise).astype(np.float32))


def _excess_rate(excess: NDArray[np.float64]) -> float:
    """Rate of the exponential with this mean; a degenerate tail falls off at once."""
    return 1.0 / max(float(excess.mean()), LEAST_EXCESS)


@dataclass(frozen=True)
class CentralMap:
    """Maps a two-sided score to a standard normal: both tails calibrated, joined at the middle."""

    upper: TailMap
    lower: TailMap

    def __call__(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normal quantile of the calibrated probability, same shape, float32."""
        rarer_above = score >= self.middle
        rarer, side = np.empty(score.shape, np.float32), score[rarer_above]
        rarer[rarer_above] = self.upper(side)
        rarer[~rarer_above] = self.lower(-score[~rarer_above])
        deviation = ndtri(np.exp(np.multiply(rarer, -LN10, dtype=np.float64)))
        return np.negative(deviation, out=deviation, where=rarer_above).astype(np.float32)

    @cached_property
    def middle(self) -> np.float32:
        """The least score of which the upper tail is the rarer: each value is looked up in one tail."""
        low, high = -FURTHEST, FURTHEST
        while True:
            between = np.array(0.5 * (float(low) + float(high)), dtype=np.float32)
            score = np.float32(between)
            if score in (low, high):
                return high
            if self.upper(between) > self.lower(-between):
                high = score
            else:
                low = score


def fit_central(sample: NDArray[np.float32]) -> CentralMap:
    """Fit both tails to two-sided scores of history."""
    return CentralMap(fit_tail(sample), fit_tail(-sample))
