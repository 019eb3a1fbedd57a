"""Shares as they are, between 0 and 1 (Ferrari & Cribari-Neto 2004).

Mean: the inverse logit of the location. Precision: by the delta method, a spread s of the logit is a
standard deviation s M (1 - M) of the share, whose variance is M (1 - M) / (1 + precision).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc, betaincc, betaincinv, expit, logit

from anomaly.likelihoods.law import Law, log_difference

if TYPE_CHECKING:
    from anomaly.likelihoods.law import Floats, Parameters

MEAN_EDGE = 1e-4
LEAST_PRECISION, MOST_PRECISION = 0.1, 1e6
EDGE, TINY = 1e-9, 1e-300


class Beta(Law):
    """See the module."""

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        a, b = shape(said)
        share = expit(0.5 * (low + high).astype(np.float64))
        return _log(betainc(a, b, share)), _log(betaincc(a, b, share))

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        a, b = shape(said)
        first, last = expit(low.astype(np.float64)), expit(high.astype(np.float64))
        below, above = betainc(a, b, last), betaincc(a, b, first)
        inner = np.where(below < above, betainc(a, b, first), betaincc(a, b, last))
        return log_difference(_log(np.minimum(below, above)), _log(inner))

    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """See Law."""
        a, b = shape(said)
        return logit(np.clip(betaincinv(a, b, u), EDGE, 1 - EDGE))


def shape(said: Parameters) -> tuple[Floats, Floats]:
    """The two parameters."""
    mean = np.clip(expit(said.location.astype(np.float64)), MEAN_EDGE, 1 - MEAN_EDGE)
    precision = 1 / (said.spread.astype(np.float64) ** 2 * mean * (1 - mean)) - 1
    precision = np.clip(precision, LEAST_PRECISION, MOST_PRECISION)
    return mean * precision, (1 - mean) * precision


def _log(probability: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(probability, TINY)))
