"""Observed against forecast: calibrated deviations, the same scale for every metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.calibration import CentralMap
    from anomaly.features import Observed
    from anomaly.likelihoods.forecast import Forecast

LEAST_LEFT = 1e-3  # of a mid-p tail: rounding must not take it below nothing
SHOCK_CUT = 2.5  # deviations are cut to this before they are averaged over users
SHOCK_PRIOR = 20.0  # users whose common deviation is believed by half
SHOCK_USERS = 20  # with fewer there is no "everyone"


def log_odds(seen: Observed, said: Forecast) -> NDArray[np.float32]:
    """How far up the forecast distribution each value lies: log of lower over upper mid-p tail.

    Returns: (users, steps, metrics) float32; 0 in the middle, NaN where nothing is known.
    Raises: ShapeError if observed and forecast differ in shape.
    """
    if seen.active.shape != said.location.shape:
        raise ShapeError(
            f"surprise: observed is {seen.active.shape}, forecast is {said.location.shape} "
            "(users, steps, metrics). Forecast from the panel you score."
        )
    lower, upper = said.log_tails(seen.active, seen.low, seen.high)
    return np.where(seen.mask, lower - upper, np.float32(np.nan)).astype(np.float32)


def randomised(seen: Observed, said: Forecast, seed: int) -> NDArray[np.float32]:
    """`log_odds` at a random point of the interval that each value stands for, by seed.

    Only so are chances of counts uniform for everyone where the forecast is true (randomised PIT:
    Czado, Gneiting & Held 2009); by mid-p a group that often does nothing has none below a half.
    """
    lower, upper = said.log_tails(seen.active, seen.low, seen.high)
    mass = np.exp(said.log_likelihood(seen.active, seen.low, seen.high).astype(np.float64))
    shift = (np.random.default_rng(seed).random(mass.shape) - 0.5) * mass
    below, above = np.exp(lower, dtype=np.float64), np.exp(upper, dtype=np.float64)
    odds = np.log(np.maximum(below + shift, LEAST_LEFT * below))
    odds -= np.log(np.maximum(above - shift, LEAST_LEFT * above))
    return np.where(seen.mask, odds, np.nan).astype(np.float32)


def deviations(odds: NDArray[np.float32], maps: Sequence[CentralMap]) -> NDArray[np.float32]:
    """Calibrated normal deviations, (users, steps, metrics); 0 where nothing is known."""
    out = np.zeros_like(odds)
    for metric, central in enumerate(maps):
        own = np.ascontiguousarray(odds[..., metric])
        known = np.isfinite(own)
        if known.all():
            out[..., metric] = central(own)
        else:
            out[..., metric][known] = central(own[known])
    return out


def common_shock(deviation: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What happened to everyone at a step, (steps, metrics): it is no one's anomaly.

    Args: deviation (users, steps, metrics); present (users, steps).
    """
    count = present.sum(0)[:, None].astype(np.float64)
    cut = np.where(present[..., None], np.clip(deviation, -SHOCK_CUT, SHOCK_CUT), 0)
    mean = cut.sum(0, dtype=np.float64) / np.maximum(count, 1)
    believed = np.where(count >= SHOCK_USERS, count / (count + SHOCK_PRIOR), 0)
    return np.asarray(mean * believed, dtype=np.float32)


def take_off(deviation: NDArray[np.float32], common: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deviations less what the common shock (steps, metrics) explains of them: down to 0, never past it.

    A holiday explains who does little; it does not make odd who was never there on such a day, whom
    a shock taken off in full would show as far too busy. What is unknown stays 0.
    """
    explained = np.clip(deviation, np.minimum(common, 0), np.maximum(common, 0))
    return np.asarray(deviation - explained, dtype=np.float32)
