"""Counts proper: the size is negative binomial, given that it is not zero (Mullahy 1986).

Its mean and dispersion follow from location and spread by moments of the logarithm: a Poisson count
of mean e^m varies in its log by about 1/(1 + e^m); what the spread has beyond that is the variance of
the log of a gamma intensity, trigamma(r) = 1/r + 1/(2 r^2), and its mean log lies 1/(2r) + 1/(12 r^2)
below the log of its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc, betaln, log_expit, nbdtrik

from anomaly.likelihoods.law import Law, Parameters, count_of

if TYPE_CHECKING:
    from typing import Any

    from anomaly.likelihoods.law import Floats

LEAST_EXCESS, MOST_EXCESS = 1e-4, 4.0  # of the log's variance: from nearly Poisson to r = 1/2
MOST_LOCATION = 25.0
LEAST_ABOVE = 0.02  # a mean size is held to be this far above 1: nearer, the law is stiff
LEAST_MEAN = 1e-4
NEWTON = 3  # steps that find the mean of the whole law from that of its positive part, to 11 digits
TINY = 1e-300


class HurdleNegativeBinomial(Law):
    """Zeros from the hurdle alone, sizes negative binomial without zero."""

    def ready(self, said: Parameters) -> Parameters:
        """See Law."""
        return Counting(said.active_logit, said.location, said.spread, *shape(said))

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        del low
        mean, r = shape(said)
        y, some = count_of(high), _some(mean, r)
        half = np.exp(_log_mass(y, mean, r)) / 2
        share = np.minimum((betainc(y + 1, r, mean / (r + mean)) + half) / some, 1)
        lower = 1 - share
        few = share >= 0.5  # what is left of 1 has lost its digits there
        y, half, some = y[few], half[few], some[few]
        below = betainc(r[few], y, r[few] / (r[few] + mean[few])) - (1 - some)
        lower[few] = (np.maximum(below, 0) + half) / some
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

    def size_sample(self, said: Parameters, generator: np.random.Generator) -> Floats:
        """See Law. Exact, and a fiftieth of the cost of quantiles: the count is a Poisson process on
        [0, 1] of a gamma intensity, seen from its first event on, which is known to fall within.
        """
        mean, r = shape(said)
        waits = -np.log1p(-generator.random(mean.shape) * _some(mean, r)) / r
        first = np.minimum(np.expm1(waits) * (r / mean), 1)
        intensity = generator.standard_gamma(r + 1) / (r / mean + first)
        return np.asarray(np.log1p(generator.poisson(intensity * (1 - first))))


class ZeroInflatedNegativeBinomial(HurdleNegativeBinomial):
    """Zeros from both parts (Lambert 1992): some users are idle, and those at work may count zero.

    The share at work is that which gives the rate of activity, at most 1: where the negative binomial
    alone has more zeros than the rate allows, its zeros count and the rate gives way.
    """

    def log_rates(self, said: Parameters) -> tuple[Floats, Floats]:
        """See Law."""
        mean, r = shape(said)
        none = -r * np.log1p(mean / r)
        log_p, most = log_expit(said.active_logit), np.log(-np.expm1(none))
        capped = log_p > most
        return np.where(capped, most, log_p), np.where(capped, none, log_expit(-said.active_logit))


@dataclass(frozen=True, slots=True)
class Counting(Parameters):
    """With the mean and the size parameter r of the whole negative binomial, see `shape`."""

    mean: Floats
    r: Floats


def shape(said: Parameters) -> tuple[Floats, Floats]:
    """Mean and size parameter r of the whole negative binomial; variance is mean + mean^2 / r."""
    if isinstance(said, Counting):
        return said.mean, said.r
    middle = np.clip(said.location.astype(np.float64), -1, MOST_LOCATION)
    chance = 1 / (1 + np.exp(middle))
    excess = np.clip(said.spread.astype(np.float64) ** 2 - chance, LEAST_EXCESS, MOST_EXCESS)
    r = (1 + np.sqrt(1 + 2 * excess)) / (2 * excess)
    positive = np.exp(middle + chance / 2 + 1 / (2 * r) + 1 / (12 * r**2))
    positive = np.maximum(positive, 1 + LEAST_ABOVE)
    mean = near(positive)
    for _ in range(NEWTON):  # positive = mean / P(Y > 0)
        some = _some(mean, r)
        slope = (some - mean * (1 - some) / (1 + mean / r)) / some**2
        mean = np.maximum(mean - (mean / some - positive) / slope, LEAST_MEAN)
    return mean, r


def near(positive: Any) -> Any:
    """About the mean of the whole law, from that of its positive part: where the search begins."""
    return (positive - 1) * (1 + 1 / (1 + positive))


def _some(mean: Floats, r: Floats) -> Floats:
    """P(Y > 0)."""
    return -np.expm1(-r * np.log1p(mean / r))


def _log_mass(y: Floats, mean: Floats, r: Floats) -> Floats:
    """Log of P(Y = y), y >= 1."""
    ways = -betaln(r, y + 1) - np.log(y + r)
    return np.asarray(ways - r * np.log1p(mean / r) - y * np.log1p(r / mean))
