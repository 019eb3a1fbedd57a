"""A budget of false flags, or a chance tail: the level that history's highest values rarely reach.

The highest evidence of each user and block of time follows a Gumbel law (Gumbel 1958), fitted to its
middle by quantiles, out of reach of the incidents that history holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = (0.5, 0.6, 0.7, 0.8)  # above them lie the incidents that history holds
LEAST_SPREAD = 0.05


def level_for(maxima: NDArray[np.float32], chance: float) -> float:
    """The evidence that a block's maximum exceeds with this chance.

    Args: maxima: the highest evidence of each block in history, at least one. chance: in (0, 1).
    """
    found = np.asarray(maxima, dtype=np.float64)
    quantiles = [q for q in QUANTILES if (1 - q) * len(found) >= 2] or [0.5]
    at = -np.log(-np.log(np.array(quantiles)))
    values = np.quantile(found, quantiles)
    if len(quantiles) > 1:
        scale, place = np.polyfit(at, values, 1)
    else:
        scale, place = LEAST_SPREAD, float(values[0])
    scale = max(float(scale), LEAST_SPREAD)
    return float(place - scale * np.log(-np.log1p(-min(chance, 0.9))))
