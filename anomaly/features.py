"""What the network is shown at each step, and what it is held to.

Everything is relative to the twin's forecast, so that one network serves users of any size and
metrics of any unit: a value is shown as deviations from what the twin expected of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.calendar import FEATURES as CALENDAR_FEATURES
from anomaly.likelihoods.forecast import Forecast

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from anomaly.likelihoods.links import Links
    from anomaly.panel import Panel
    from anomaly.twin import TwinForecast

CLIP = np.float32(6.0)  # deviations: beyond, more says nothing new and would shake the gradients
OUTPUTS = 3  # corrections per metric: to the rate's logit, the location, the log of the spread
PER_METRIC = 4
LOGIT_UNIT = np.float32(4.0)
MAX_LOGIT = np.float32(10.0)  # of a rate that the network is shown
MAX_CORRECTION = np.float32(8.0)
MAX_WIDENING = 1.0  # of the log of the spread: a band e times as wide says enough


@dataclass(frozen=True, slots=True)
class Observed:
    """A panel on the linked scale: (users, steps, metrics) active, low, high (ends), mask."""

    active: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mask: NDArray[np.bool_]

    @property
    def middle(self) -> NDArray[np.float32]:
        """The linked size; meaningless where not active."""
        return np.float32(0.5) * (self.low + self.high)

    def steps(self, first: int, last: int) -> Observed:
        """Steps first (inclusive) to last (exclusive)."""
        return self.at(np.s_[:, first:last])

    def at(self, place: Any) -> Observed:
        """Of some users and steps: an index of the leading axes."""
        return Observed(self.active[place], self.low[place], self.high[place], self.mask[place])


def observe(panel: Panel, links: Links) -> Observed:
    """The panel on the linked scale; what lies outside a user's presence is unknown."""
    mask = panel.mask & panel.present[..., None]
    low, high = links.bounds(panel.values)
    return Observed(links.active(panel.values, mask), low, high, mask)


def censored(seen: Observed, links: Links) -> Observed:
    """What a likelihood is told of: see `Links.censored`."""
    low, high = links.censored(seen.low, seen.high)
    return Observed(seen.active, low, high, seen.mask)


def current(seen: Observed, said: TwinForecast, hurdle: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(users, steps, 2 metrics): deviations of size, then of activity, from the twin's forecast."""
    size = np.clip((seen.middle - said.location) / said.spread, -CLIP, CLIP)
    rate = 1 / (1 + np.exp(-said.active_logit))
    happened = np.where(seen.mask & hurdle, seen.active - rate, 0)
    return np.concatenate([np.where(seen.active, size, 0), happened], axis=-1).astype(np.float32)


def inputs(
    lagged: NDArray[np.float32],
    said: TwinForecast,
    level: NDArray[np.float32],
    calendar: NDArray[np.float32],
    days: NDArray[np.float32],
) -> NDArray[np.float32]:
    """(users, steps, features), of things known before the step; what the twin expects of the rate
    comes right after the deviations, where a network that runs freely looks for it.

    Args: lagged: `current` of a horizon earlier; level: (users, metrics) own mean sizes; calendar:
    (users, steps, CALENDAR_FEATURES); days: (users,) lived through before these steps.
    """
    apart = np.clip((said.location - level[:, None, :]) / said.spread, -CLIP, CLIP)
    experience = np.broadcast_to(np.log1p(days)[:, None, None] / LOGIT_UNIT, (*apart.shape[:2], 1))
    logit = np.clip(said.active_logit, -MAX_LOGIT, MAX_LOGIT) / LOGIT_UNIT
    parts = [lagged, logit, apart, calendar, experience]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def expected(said: TwinForecast, corrections: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `current` will be on average, (users, steps, 2 metrics), by the corrected forecast.

    Args: corrections: (users, steps, metrics, OUTPUTS), of each metric by itself.
    """
    moved = np.clip(corrections, -MAX_CORRECTION, MAX_CORRECTION)
    usual = np.clip(said.active_logit, -MAX_LOGIT, MAX_LOGIT)
    rate = 1 / (1 + np.exp(-usual - moved[..., 0]))
    size = np.clip(moved[..., 1], -CLIP, CLIP)
    return np.concatenate([rate * size, rate - 1 / (1 + np.exp(-usual))], axis=-1).astype(
        np.float32
    )


def input_size(metrics: int) -> int:
    """How many features a step has."""
    return PER_METRIC * metrics + CALENDAR_FEATURES + 1


def pooled(heads: NDArray[np.float32]) -> NDArray[np.float32]:
    """What several heads say together: their corrections averaged, (heads, ...) -> (...).

    Of log odds and of laws of one spread this is the logarithmic pool (Genest & Zidek 1986).
    """
    flat = heads.reshape(len(heads), -1)  # along one axis numpy is four times as quick
    one = np.array([MAX_CORRECTION, MAX_CORRECTION, MAX_WIDENING], dtype=np.float32)
    most = np.tile(one, flat.shape[1] // OUTPUTS)
    together: NDArray[np.float32] = np.clip(flat, -most, most).mean(0).reshape(heads.shape[1:])
    return together


def corrected(said: TwinForecast, corrections: NDArray[np.float32]) -> Forecast:
    """The twin's forecast with the network's corrections, (users, steps, metrics, OUTPUTS)."""
    moved = np.clip(corrections, -MAX_CORRECTION, MAX_CORRECTION)
    base = said.likelihood()
    return Forecast(
        said.active_logit + moved[..., 0],
        said.location + said.spread * moved[..., 1],
        base.spread * np.exp(np.clip(moved[..., 2], -MAX_WIDENING, MAX_WIDENING)),
        base.families,
    )
