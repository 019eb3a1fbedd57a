"""The extreme-value tail: flags so often by chance, for few series (Siffer et al. 2017).

Peaks over a threshold, one for each cluster (Davison & Smith 1990), follow a generalised Pareto law.
It is fitted by quantiles (Pickands 1975), not by moments: one fault that history holds would carry
those away. Evidence is a logarithm of a chance, so the shape is near 0 and is held there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly.panel import DAY_SECONDS
from anomaly.thresholds.blocks import LEAST_SCALE, run_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

YEAR = 365.25 * DAY_SECONDS
LONGEST = 10_000  # steps: no history tells what a series by the minute reaches once in a year
CLUSTERED = 1 / 20  # the threshold lies where clusters are so many of the most there are at any ...
LEAST_PEAKS = 8  # ... or so many, where history is short
LEVELS = 64
SHAPES = (-0.1, 0.2)
SHAPE_PRIOR = 300  # peaks that a shape of 0 is worth
SCALE_PRIOR = 10  # peaks that the usual scale is worth


def level(evidence: NDArray[np.float32], seen: NDArray[np.bool_], step: int, flags: float) -> float:
    """The evidence reached so often by chance in a series and year, or 10,000 steps if sooner.

    Args: evidence (series, steps) of later history; seen: where a series was present; step: seconds.
    """
    shown = np.where(seen, evidence, np.float32(0))
    threshold = cluster_threshold(shown)
    peaks = cluster_peaks(shown, threshold)
    if len(peaks) == 0:
        return threshold + LEAST_SCALE
    scale, shape = fit_pareto(peaks - threshold, usual_scale(evidence[seen]))
    period = min(YEAR / step, LONGEST)
    expected = len(peaks) / max(int(seen.sum()), 1) * period  # peaks in such a period
    depth = float(np.log(max(expected / flags, 1.0)))
    excess = depth if abs(shape) < 1e-6 else float(np.expm1(shape * depth)) / shape
    return threshold + scale * excess


def cluster_threshold(evidence: NDArray[np.float32]) -> float:
    """The level from which clusters thin out: where a twentieth of the most there are is left."""
    levels = np.linspace(0, float(evidence.max(initial=0.0)), LEVELS)
    counts = np.array([len(run_starts(evidence > at)) for at in levels])
    most = int(counts.max())
    enough = np.flatnonzero(counts >= max(CLUSTERED * most, min(most, LEAST_PEAKS), 1))
    return float(levels[enough[-1]]) if len(enough) else 0.0


def cluster_peaks(evidence: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """The highest evidence of each run of steps above the threshold, (clusters,)."""
    padded = np.pad(evidence, ((0, 0), (0, 1))).ravel()  # a run ends where its series does
    starts = run_starts(padded > threshold)
    if len(starts) == 0:
        return np.zeros(0)
    return np.maximum.reduceat(padded, starts).astype(np.float64)


def usual_scale(evidence: NDArray[np.float32]) -> float:
    """How evidence of single steps falls off, from its middle to its highest tenth."""
    middle, high = np.quantile(evidence, [0.5, 0.9])
    return float(high - middle) / float(np.log(5))


def fit_pareto(excess: NDArray[np.float64], usual: float) -> tuple[float, float]:
    """Scale and shape from the median and the upper quartile, drawn towards `usual` and 0."""
    count = len(excess)
    middle, upper = np.quantile(excess, [0.5, 0.75])
    ratio = (upper - middle) / max(float(middle), LEAST_SCALE / 10)
    raw = float(np.log2(max(ratio, 0.5)))
    shape = float(np.clip(raw * count / (count + SHAPE_PRIOR), *SHAPES))
    half = np.log(2) if abs(shape) < 1e-6 else np.expm1(shape * np.log(2)) / shape
    scale = float(middle) / float(half)
    weight = count / (count + SCALE_PRIOR)
    return max(weight * scale + (1 - weight) * usual, LEAST_SCALE), shape
