"""Where a metric is roughly symmetric: logarithm for counts, logit for shares, itself for gauges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.metrics import MetricSpec

SHARE_EDGE = 1e-3  # shares are kept this far from 0 and 1, where the logit ends
AMOUNT_TICK = 0.01  # relative resolution taken for amounts that are not whole numbers
HALF_AMOUNT = np.float32(AMOUNT_TICK / 2)
GAUGE_TICK = 1e-3  # resolution taken for gauges, as a share of their interquartile range
# Relative resolution of counts; of a finer interval float32 cannot tell the two ends apart.
FINEST = np.float32(1e-3)
TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Links:
    """How each metric is mapped onto the scale where sizes are modelled.

    kinds: 'log', 'logit' or 'identity' for each metric.
    ticks: (metrics,) resolution in the metric's unit; a value stands for all within half a tick, a count
    past 1,000 for all within half a thousandth of it.
    hurdle: (metrics,) bool, True where zero (nothing happened) is modelled apart from the size.
    """

    kinds: tuple[str, ...]
    ticks: NDArray[np.float32]
    hurdle: NDArray[np.bool_]

    @classmethod
    def fit(
        cls, specs: Sequence[MetricSpec], values: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> Links:
        """Read resolutions off history: values and mask (users, steps, metrics)."""
        kinds = tuple(
            {"count": "log", "share": "logit", "gauge": "identity"}[s.kind] for s in specs
        )
        ticks = [
            _tick(kind, values[..., metric][mask[..., metric]]) for metric, kind in enumerate(kinds)
        ]
        return cls(kinds, np.array(ticks, dtype=np.float32), np.array([k == "log" for k in kinds]))

    def only(self, metric: int) -> Links:
        """Those of one metric."""
        one = slice(metric, metric + 1)
        return Links(self.kinds[one], self.ticks[one], self.hurdle[one])

    def active(self, values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(..., metrics): True where there is a size to speak of."""
        return mask & (~self.hurdle | (values > 0))

    def bounds(
        self, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The linked ends of the interval that each value stands for, (..., metrics)."""
        low, high = np.empty_like(values), np.empty_like(values)
        for metric, kind in enumerate(self.kinds):
            low[..., metric], high[..., metric] = self._bounds(
                kind, values[..., metric], self.ticks[metric]
            )
        return low, high

    def censored(
        self, low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same ends, infinite where nothing lies beyond: a count of 1 stands for all below 1.5,
        a share at the edge for all beyond it. So the probabilities of all values sum to 1.
        """
        low, high = low.copy(), high.copy()
        nothing, everything = np.zeros(1, np.float32), np.ones(1, np.float32)
        for metric, kind in enumerate(self.kinds):
            if kind == "identity":
                continue
            first, _ = self._bounds(kind, nothing, self.ticks[metric])
            low[..., metric][low[..., metric] <= first] = -np.inf
            if kind == "logit":
                _, last = self._bounds(kind, everything, self.ticks[metric])
                high[..., metric][high[..., metric] >= last] = np.inf
        return low, high

    @staticmethod
    def _bounds(
        kind: str, value: NDArray[np.float32], tick: np.float32
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if kind == "log":
            if tick > 0:
                whole = np.maximum(value, tick)
                half = np.maximum(tick, FINEST * whole) / 2
                return np.log(whole - half), np.log(whole + half)
            middle = np.log(np.maximum(value, np.float32(TINY)))
            return middle - HALF_AMOUNT, middle + HALF_AMOUNT
        if kind == "logit":
            share = np.clip(value, np.float32(SHARE_EDGE), np.float32(1 - SHARE_EDGE))
            middle = np.log(share / (1 - share))
            return middle - HALF_AMOUNT, middle + HALF_AMOUNT
        return value - tick / 2, value + tick / 2

    def inverse(self, linked: NDArray[np.float32]) -> NDArray[np.float32]:
        """Back into each metric's unit, (..., metrics)."""
        out = np.empty_like(linked)
        for metric, kind in enumerate(self.kinds):
            part = linked[..., metric]
            if kind == "log":
                # Less than every amount is nothing.
                out[..., metric] = np.where(np.isneginf(part), 0, np.exp(np.clip(part, -60, 60)))
            elif kind == "logit":
                out[..., metric] = 1 / (1 + np.exp(-np.clip(part, -60, 60)))
            else:
                out[..., metric] = part
        return out


def _tick(kind: str, known: NDArray[np.float32]) -> float:
    """Whole numbers resolve to 1, other amounts relatively (0), gauges to a share of their spread."""
    if kind == "log":
        return 1.0 if np.all(known == np.round(known)) else 0.0
    if kind == "logit" or len(known) == 0:
        return AMOUNT_TICK
    low, high = np.quantile(known, (0.25, 0.75))
    spread = float(high - low) or float(np.std(known))
    scale = float(np.abs(np.median(known)))
    return max(GAUGE_TICK * spread, TINY * scale, TINY)
