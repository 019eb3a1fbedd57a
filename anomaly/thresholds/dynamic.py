"""The dynamic threshold of Hundman et al. (2018): the cut that takes most off mean and spread.

The paper chooses it anew for each channel and stretch of the scored data. Here it is chosen on each
user's later history, and the median over users is the level: it is fixed before the month is seen,
and one user's incident does not move it. The paper smooths errors first; evidence is of whole
windows already. Flags are pruned within a user's month by a factor fixed beforehand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly.thresholds.blocks import run_starts

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEVIATIONS = np.arange(2.5, 12.1, 0.5)  # z of the paper
PRUNE = 0.13  # p of the paper: a flag falls off by so much from the next higher one
LEAST_STEPS = 24  # of a user's, to have a mean and a spread
SMALLEST = 1e-9


def level(evidence: NDArray[np.float32], seen: NDArray[np.bool_]) -> float:
    """The median over users of the cut of each.

    Args: evidence (users, steps) of later history; seen: where a user was present.
    """
    cuts = [
        cut(row[known].astype(np.float64))
        for row, known in zip(evidence, seen, strict=True)
        if known.sum() >= LEAST_STEPS
    ]
    return float(np.median(cuts)) if cuts else float(evidence.max(initial=0.0))


def cut(series: NDArray[np.float64]) -> float:
    """Mean + z sd, with z such that leaving out what lies above shrinks both most for its size.

    Where nothing lies above any, the highest of them is the cut.
    """
    mean, spread = float(series.mean()), float(series.std())
    best, chosen = -np.inf, mean + float(DEVIATIONS[-1]) * spread
    for z in DEVIATIONS:
        at = mean + z * spread
        above = series > at
        if not above.any():
            break
        below = series[~above]
        runs = len(run_starts(above))
        shrunk = (mean - below.mean()) / max(mean, SMALLEST)
        shrunk += (spread - below.std()) / max(spread, SMALLEST)
        worth = float(shrunk) / (int(above.sum()) + runs**2)
        if worth >= best:
            best, chosen = worth, float(at)
    return chosen
