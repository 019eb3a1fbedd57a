"""The highest evidence of each user and stretch of time, and the law it follows where all is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILES = np.arange(0.05, 0.71, 0.05)  # above them lie the incidents that history holds
LEAST_SCALE = 0.05
LEAST_SEEN = 0.5  # of a block's steps; what was seen for less has had less chance to be high


def maxima(
    evidence: NDArray[np.float32], seen: NDArray[np.bool_], steps: float
) -> NDArray[np.float64]:
    """The highest evidence of each user and block of so many steps, (blocks,); at least one.

    Args: evidence (users, all steps); seen: same shape, where it is of a user who was present.
    """
    count = max(1, round(evidence.shape[1] / steps))
    ends = np.linspace(0, evidence.shape[1], count + 1).astype(np.int64)
    shown = np.where(seen, evidence, np.float32(0))
    highest = np.maximum.reduceat(shown, ends[:-1], axis=1)
    known = np.add.reduceat(seen, ends[:-1], axis=1, dtype=np.int64) / np.diff(ends)
    found = highest[known >= LEAST_SEEN]
    return (found if len(found) else np.zeros(1)).astype(np.float64)


def run_starts(above: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Positions in the flattened array at which runs of True along the last axis begin."""
    before = np.concatenate([np.zeros_like(above[..., :1]), above[..., :-1]], axis=-1)
    return np.flatnonzero(above & ~before)


@dataclass(frozen=True, slots=True)
class Gumbel:
    """The law of block maxima whose tail is exponential, as that of evidence is (Gumbel 1958)."""

    place: float
    scale: float

    @classmethod
    def fit(cls, found: NDArray[np.float64]) -> Gumbel:
        """By least squares through the middle quantiles, out of reach of history's incidents."""
        at = -np.log(-np.log(QUANTILES))
        values = np.quantile(found, QUANTILES)
        scale = max(float(np.polyfit(at, values, 1)[0]), LEAST_SCALE)
        return cls(float(np.mean(values - scale * at)), scale)

    def level(self, rate: float) -> float:
        """The value passed so often in a block, on average; clusters are a Poisson process."""
        return self.place - self.scale * float(np.log(rate))

    def exceeded(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(a block's maximum reaches each value)."""
        return -np.expm1(-np.exp(-(values - self.place) / self.scale))
