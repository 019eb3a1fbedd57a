"""The false-discovery rate: at most this share of flags false (Benjamini & Hochberg 1995).

The tests are user-weeks, their chances those of the law fitted to the middle of all. The procedure
runs once, on later history, and its level serves until the next training: a month like history then
holds that share of false ones. So a flag of one user never depends on who else is in the shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly.panel import DAY_SECONDS
from anomaly.thresholds.blocks import Gumbel, maxima

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

WEEK = 7 * DAY_SECONDS
LEAST_BLOCKS = 8  # of each user, where history lasts less than so many weeks


def level(
    evidence: NDArray[np.float32],
    seen: NDArray[np.bool_],
    step: int,
    share: float,
    correction: Literal["bh", "by"],
) -> float:
    """The least evidence that the procedure calls a discovery.

    Args: evidence (users, steps) of later history; seen: where a user was present; step: seconds;
        share: of discoveries that may be false. correction: bh, or by, which holds under any
        dependence of the tests (Benjamini & Yekutieli 2001) and asks for more.
    Returns: where history holds no discovery, the level that a single one would have had to reach.
    """
    block = max(1, min(WEEK // step, evidence.shape[1] // LEAST_BLOCKS))
    found = maxima(evidence, seen, block)
    null = Gumbel.fit(found)
    allowed = share / (harmonic(len(found)) if correction == "by" else 1.0)
    p_values = np.sort(null.exceeded(found))
    passed = np.flatnonzero(p_values <= allowed * np.arange(1, len(found) + 1) / len(found))
    discoveries = int(passed[-1]) + 1 if len(passed) else 1
    return null.level(-float(np.log1p(-allowed * discoveries / len(found))))


def harmonic(count: int) -> float:
    """1 + 1/2 + ... + 1/count."""
    return float(np.sum(1 / np.arange(1, count + 1)))
