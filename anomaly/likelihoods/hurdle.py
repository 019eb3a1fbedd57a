"""A two-part likelihood: does anything happen, and if so, how much.

Cragg 1971 for the two parts; the size is logistic on the linked scale (log-logistic, Fisk 1961, for
counts): its tail has a closed form and is heavy enough that one wild hour does not bend a fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, log_expit, logit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCALE_OF_SD = np.float32(np.sqrt(3) / np.pi)  # a logistic of standard deviation 1 has this scale
LOG_TINY = np.float32(-69.0)  # 1e-30: nothing is held to be less likely than this


@dataclass(frozen=True, slots=True)
class HurdleLogistic:
    """P(Y > 0), then a logistic size on the linked scale; all (..., metrics) float32.

    active_logit: logit of P(something happens); +inf-like (30) where a metric has no hurdle.
    location, scale: of the size on the linked scale.
    """

    active_logit: NDArray[np.float32]
    location: NDArray[np.float32]
    scale: NDArray[np.float32]

    def log_tails(
        self, active: NDArray[np.bool_], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log of the mid-p tails: (P(Y < y) + P(Y = y)/2, P(Y > y) + P(Y = y)/2).

        Args: active: whether something happened; low, high: linked ends of what y stands for.
        Mid-p (Lancaster 1961) makes tails of counts fair: they average one half.
        """
        log_p, log_q = log_expit(self.active_logit), log_expit(-self.active_logit)
        middle = (np.float32(0.5) * (low + high) - self.location) / self.scale
        upper = np.where(
            active, log_p + log_expit(-middle), np.logaddexp(log_p, log_q - np.log(np.float32(2)))
        )
        with np.errstate(under="ignore"):
            lower = np.where(
                active,
                np.logaddexp(log_q, log_p + log_expit(middle)),
                log_q - np.log(np.float32(2)),
            )
        return np.maximum(lower, LOG_TINY), np.maximum(upper, LOG_TINY)

    def log_likelihood(
        self, active: NDArray[np.bool_], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Log-probability of each observed interval, (..., metrics)."""
        a, b = (low - self.location) / self.scale, (high - self.location) / self.scale
        size = log_expit(b) + log_expit(-a) + np.log(-np.expm1(-np.maximum(b - a, 1e-6)))
        return np.where(
            active, log_expit(self.active_logit) + size, log_expit(-self.active_logit)
        ).astype(np.float32)

    def quantile(self, probability: float) -> NDArray[np.float32]:
        """The linked size at which P(Y <= y) reaches the probability; -inf where that is zero."""
        p = expit(self.active_logit)
        inside = (probability - (1 - p)) / np.maximum(p, 1e-9)
        size = self.location + self.scale * logit(np.clip(inside, 1e-6, 1 - 1e-6))
        return np.where(inside > 0, size, -np.inf).astype(np.float32)

    def sample(self, generator: np.random.Generator, draws: int) -> NDArray[np.float32]:
        """(draws, ..., metrics) linked sizes; -inf where nothing happens."""
        shape = (draws, *self.location.shape)
        happens = generator.random(shape) < expit(self.active_logit)
        u = np.clip(generator.random(shape), 1e-6, 1 - 1e-6)
        return np.where(happens, self.location + self.scale * logit(u), -np.inf).astype(np.float32)
