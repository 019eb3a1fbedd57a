"""Counts proper: the size is negative binomial, given that it is not zero (Mullahy 1986).

Its mean and dispersion follow from location and spread by moments of the logarithm: a Poisson count
of mean e^m varies in its log by about 1/(1 + e^m); what the spread has beyond that is the variance of
the log of a gamma intensity, trigamma(r) = 1/r + 1/(2 r^2), and its mean log lies 1/(2r) + 1/(12 r^2)
below the log of its mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc, betaln, log_expit, nbdtrik

from anomaly.likelihoods.law import Law, count_of

if TYPE_CHECKING:
    from anomaly.likelihoods.law import Floats, Parameters

LEAST_EXCESS, MOST_EXCESS = 1e-4, 4.0  # of the log's variance: from nearly Poisson to r = 1/2
MOST_LOCATION = 25.0
LEAST_ABOVE = 0.02  # a mean size is held to be this far above 1: nearer, the law is stiff
LEAST_MEAN = 1e-4
NEWTON = 8  # steps that find the mean of the whole law from that of its positive part
TINY = 1e-300


class HurdleNegativeBinomial(Law):
    """Zeros from the hurdle alone, sizes negative binomial without zero."""

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        del low
        mean, r = shape(said)
        y, some = count_of(high), _some(mean, r)
        half = np.exp(_log_mass(y, mean, r)) / 2
        above = betainc(y + 1, r, mean / (r + mean)) + half
        below = (
            np.maximum(betainc(r, y, r / (r + mean)) - np.exp(-r * np.log1p(mean / r)), 0) + half
        )
        share = np.minimum(above / some, 1)  # below is taken from what is left where that is more
        lower = np.where(share < 0.5, 1 - share, below / some)
        return np.log(np.maximum(lower, TINY)), np.log(np.maximum(share, TINY))

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        del low
        mean, r = shape(said)
        return np.asarray(_log_mass(count_of(high), mean, r) - np.log(_some(mean, r)))

    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """See Law."""
        mean, r = shape(said)
        none = 1 - _some(mean, r)
        y = np.ceil(nbdtrik(none + u * (1 - none), r, r / (r + mean)) - 1e-9)
        return np.asarray(np.log(np.maximum(np.nan_to_num(y, nan=1.0), 1)))


class ZeroInflatedNegativeBinomial(HurdleNegativeBinomial):
    """Zeros from both parts (Lambert 1992): some users are idle, and those at work may count zero.

    The share at work is that which gives the rate of activity, at most 1: where the negative binomial
    alone has more zeros than the rate allows, its zeros count and the rate gives way.
    """

    def log_rates(self, said: Parameters) -> tuple[Floats, Floats]:
        """See Law."""
        mean, r = shape(said)
        log_p, most = log_expit(said.active_logit), np.log(_some(mean, r))
        capped = log_p > most
        none = -r * np.log1p(mean / r)
        return np.where(capped, most, log_p), np.where(capped, none, log_expit(-said.active_logit))


def shape(said: Parameters) -> tuple[Floats, Floats]:
    """Mean and size parameter r of the whole negative binomial; variance is mean + mean^2 / r."""
    middle = np.clip(said.location.astype(np.float64), -1, MOST_LOCATION)
    chance = 1 / (1 + np.exp(middle))
    excess = np.clip(said.spread.astype(np.float64) ** 2 - chance, LEAST_EXCESS, MOST_EXCESS)
    r = (1 + np.sqrt(1 + 2 * excess)) / (2 * excess)
    positive = np.exp(middle + chance / 2 + 1 / (2 * r) + 1 / (12 * r**2))
    positive = np.maximum(positive, 1 + LEAST_ABOVE)
    mean = positive
    for _ in range(NEWTON):  # positive = mean / P(Y > 0)
        none, some = np.exp(-r * np.log1p(mean / r)), _some(mean, r)
        slope = (some - mean * none / (1 + mean / r)) / some**2
        mean = np.maximum(mean - (mean / some - positive) / slope, LEAST_MEAN)
    return mean, r


def _some(mean: Floats, r: Floats) -> Floats:
    """P(Y > 0)."""
    return -np.expm1(-r * np.log1p(mean / r))


def _log_mass(y: Floats, mean: Floats, r: Floats) -> Floats:
    """Log of P(Y = y), y >= 1."""
    ways = -betaln(r, y + 1) - np.log(y + r)
    return np.asarray(ways - r * np.log1p(mean / r) - y * np.log1p(r / mean))
