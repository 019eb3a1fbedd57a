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
from scipy.special import betainc, betaln, gammainc, gammaincc, nbdtrik

from anomaly.likelihoods.law import Law, Parameters, count_of, log_rates
from anomaly.likelihoods.links import FINEST

if TYPE_CHECKING:
    from typing import Any

    from anomaly.likelihoods.law import Floats

LEAST_EXCESS, MOST_EXCESS = 1e-4, 4.0  # of the log's variance: from nearly Poisson to r = 1/2
MOST_LOCATION = 25.0
LEAST_ABOVE = 0.02  # a mean size is held to be this far above 1: nearer, the law is stiff
LEAST_MEAN = 1e-4
NEWTON = 2  # steps that find the mean of the whole law from that of its positive part, to 7 digits
MOST_ADDED = 32  # counts up to this are told of by adding probabilities up
LEAST_LEFT = 1e-7  # of 1, where what was added has been taken off: less has lost its digits
GAMMA_ERROR = 1e-4  # of a tail's log, for which large counts are taken to be gamma
TINY = 1e-300


class HurdleNegativeBinomial(Law):
    """Zeros from the hurdle alone, sizes negative binomial without zero."""

    def ready(self, said: Parameters) -> Parameters:
        """See Law."""
        return Counting(said.active_logit, said.location, said.spread, *shape(said))

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        y, mean, r = count_of(low, high), *shape(said)
        lower, upper = np.empty_like(mean), np.empty_like(mean)
        few = y <= MOST_ADDED
        lower[few] = _added_up(y[few], mean[few], r[few])
        upper[few] = 1 - lower[few]
        many = ~few & (r * (r / np.minimum(mean, y)) ** 2 < GAMMA_ERROR)
        lower[many], upper[many] = _by_gamma(y[many], mean[many], r[many])
        left = ~(few | many) | (upper < LEAST_LEFT)
        lower[left], upper[left] = _by_beta(y[left], mean[left], r[left])
        return np.log(np.maximum(lower, TINY)), np.log(np.maximum(upper, TINY))

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        y, mean, r = count_of(low, high), *shape(said)
        counts = np.maximum(1, FINEST * y)  # that lie in the interval
        return np.asarray(_log_mass(y, mean, r) + np.log(counts) - np.log(_some(mean, r)))

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

    def rated(self, said: Parameters) -> tuple[Parameters, Floats, Floats]:
        """See Law."""
        return super().rated(self.ready(said))

    def log_rates(self, said: Parameters) -> tuple[Floats, Floats]:
        """See Law."""
        mean, r = shape(said)
        none = -r * np.log1p(mean / r)
        log_p, log_q = log_rates(said.active_logit)
        most = np.log(-np.expm1(none))
        capped = log_p > most
        return np.where(capped, most, log_p), np.where(capped, none, log_q)


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
    mean = near(positive, r)
    for _ in range(NEWTON):  # positive = mean / P(Y > 0)
        some = _some(mean, r)
        slope = (some - mean * (1 - some) / (1 + mean / r)) / some**2
        mean = np.maximum(mean - (mean / some - positive) / slope, LEAST_MEAN)
    return mean, r


def near(positive: Any, r: Any) -> Any:
    """About the mean of the whole law, from that of its positive part: where the search begins. Right
    in the limits of few and of many.
    """
    above, slope = positive - 1, 2 * r / (1 + r)
    return above * (above + slope) / (above + 1)


def _some(mean: Floats, r: Floats) -> Floats:
    """P(Y > 0)."""
    return -np.expm1(-r * np.log1p(mean / r))


def _log_mass(y: Floats, mean: Floats, r: Floats) -> Floats:
    """Log of P(Y = y), y >= 1."""
    ways = -betaln(r, y + 1) - np.log(y + r)
    return np.asarray(ways - r * np.log1p(mean / r) - y * np.log1p(r / mean))


def _added_up(y: Floats, mean: Floats, r: Floats) -> Floats:
    """The mid-p tail below y given Y > 0, by recurrence over the counts from 1 to y: exact, for small y."""
    order = np.argsort(-y.astype(np.int8), kind="stable")
    r, share = r[order], (mean / (mean + r))[order]
    none = np.exp(-r * np.log1p(mean[order] / r))
    mass, total = none * r * share, np.zeros_like(r)
    reached = np.cumsum(np.bincount(y.astype(np.int64), minlength=1)[::-1])[::-1]  # Y >= count
    for count in range(1, len(reached)):
        here, beyond = (
            slice(0, reached[count]),
            reached[count + 1] if count + 1 < len(reached) else 0,
        )
        total[:beyond] += mass[:beyond]
        total[beyond : reached[count]] += mass[beyond : reached[count]] / 2
        mass[here] *= share[here] * (r[here] + count) / (count + 1)
    found = np.empty_like(total)
    found[order] = total / (1 - none)
    return found


def _by_gamma(y: Floats, mean: Floats, r: Floats) -> tuple[Floats, Floats]:
    """Mid-p tails of large counts given Y > 0: what a count adds to its gamma intensity is too little to
    see (first term of the series of DiDonato & Morris 1992, whose second is within GAMMA_ERROR).
    """
    some, reached = _some(mean, r), (y + r / 2) * np.log1p(r / mean)
    upper = np.minimum(gammaincc(r, reached) / some, 1)
    lower = 1 - upper
    low = lower < 0.5  # what is left of 1 has lost its digits there
    below = gammainc(r[low], reached[low]) - (1 - some[low])
    lower[low] = np.maximum(below, 0) / some[low]
    return lower, upper


def _by_beta(y: Floats, mean: Floats, r: Floats) -> tuple[Floats, Floats]:
    """Mid-p tails of any count given Y > 0."""
    some = _some(mean, r)
    half = np.exp(_log_mass(y, mean, r)) / 2
    upper = np.minimum((betainc(y + 1, r, mean / (r + mean)) + half) / some, 1)
    below = np.maximum(betainc(r, y, r / (r + mean)) - (1 - some), 0)
    return (below + half) / some, upper
