"""A budget of false flags: the level that a user's month passes so often where all is well.

Blocks are months, as flags are: an incident of a week in a world of windows as long would count in
two of the weeks and is one flag. The law is fitted to the middle and carried on: what history's tail
holds beyond it may be incidents, of which nobody told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.months import DAYS_PER_MONTH
from anomaly.panel import DAY_SECONDS
from anomaly.thresholds.blocks import Gumbel, maxima

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MONTH = DAYS_PER_MONTH * DAY_SECONDS
ENOUGH = 100  # user-months; of fewer, weeks are taken: more blocks for a steadier law
WEEKS = 4


def level(
    evidence: NDArray[np.float32], seen: NDArray[np.bool_], step: int, per_1000: float
) -> float:
    """The evidence that this many of 1,000 user-months reach.

    Args: evidence (users, steps) of later history; seen: where a user was present; step: seconds.
    """
    month, steps = MONTH / step, evidence.shape[1]
    block = month if seen.sum() >= ENOUGH * month else month / WEEKS
    block = steps / max(1, round(steps / block))  # blocks of equal length fill the history
    return Gumbel.fit(maxima(evidence, seen, block)).level(per_1000 / 1000 * block / month)
