"""A two-part law (Cragg 1971): does anything happen, and if so, how much.

Every family has the same three parameters, so that one twin and one network serve them all; what
differs is the law of the size, given that something happened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

LOG_TINY = np.float32(-69.0)  # 1e-30: nothing is held to be less likely than this
LOG_2 = np.float32(np.log(2))
LEAST_U = 1e-6  # no draw lies further out


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a law is told of each value, (..., metrics) float32.

    active_logit: logit of P(something happens); very large where a metric has no hurdle.
    location, spread: mean and standard deviation of the size on the linked scale.
    """

    active_logit: NDArray[np.float32]
    location: NDArray[np.float32]
    spread: NDArray[np.float32]

    def at(self, places: NDArray[np.int64]) -> Self:
        """Of the values at these places of the flat arrays, in one row."""
        return replace(self, **{f.name: getattr(self, f.name).take(places) for f in fields(self)})


class Law(ABC):
    """Arrays are (..., metrics); low, high are linked ends of the interval that a value stands for,
    which may be infinite in `log_likelihood` (`Links.censored`).
    """

    @property
    def taught_by(self) -> Law:
        """The law on whose likelihood a network is trained: this one, or for a law that the loss does
        not know (see `anomaly.networks.loss`) one of ours that is like it.
        """
        return self

    def log_tails(
        self, said: Parameters, active: NDArray[np.bool_], low: Floats, high: Floats
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log of the mid-p tails: (P(Y < y) + P(Y = y)/2, P(Y > y) + P(Y = y)/2).

        Args: active: whether something happened.
        Mid-p (Lancaster 1961) makes tails of counts fair: they average one half.
        """
        said, log_p, log_q = self.rated(said)
        lower, upper = log_q - LOG_2, np.log1p(np.exp(log_q) * np.float32(-0.5))
        # Mostly nothing happens, and a size is by far the dearest to tell of.
        places = np.flatnonzero(active)
        below, above = self.size_tails(said.at(places), low.take(places), high.take(places))
        log_p, log_q = log_p.take(places), log_q.take(places)
        upper.put(places, log_p + above)
        with np.errstate(under="ignore"):
            lower.put(places, np.logaddexp(log_q, log_p + below))
        return np.maximum(lower, LOG_TINY), np.maximum(upper, LOG_TINY)

    def log_likelihood(
        self, said: Parameters, active: NDArray[np.bool_], low: Floats, high: Floats
    ) -> NDArray[np.float32]:
        """Log-probability of each observed interval."""
        log_p, log_q = self.log_rates(said)
        return np.where(active, log_p + self.size_likelihood(said, low, high), log_q).astype(
            np.float32
        )

    def quantile(self, said: Parameters, probability: float) -> NDArray[np.float32]:
        """The linked size at which P(Y <= y) reaches the probability; -inf where that is zero."""
        p = np.exp(self.log_rates(said)[0])
        inside = (probability - (1 - p)) / np.maximum(p, 1e-9)
        size = self.size_quantile(said, np.clip(inside, LEAST_U, 1 - LEAST_U))
        return np.where(inside > 0, size, -np.inf).astype(np.float32)

    def sample(
        self, said: Parameters, generator: np.random.Generator, draws: int
    ) -> NDArray[np.float32]:
        """(draws, ..., metrics) linked sizes; -inf where nothing happens."""
        shape, said = (draws, *said.location.shape), self.ready(said)
        happens = generator.random(shape) < np.exp(self.log_rates(said)[0])
        places = np.flatnonzero(happens)
        sizes = np.full(shape, -np.inf, np.float32)
        sizes.put(places, self.size_sample(said.at(places % said.location.size), generator))
        return sizes

    def ready(self, said: Parameters) -> Parameters:
        """The parameters with whatever this law works out of them, to be asked more than once."""
        return said

    def rated(self, said: Parameters) -> tuple[Parameters, Floats, Floats]:
        """`log_rates`, after the parameters with whatever had to be worked out of them for it."""
        return said, *self.log_rates(said)

    def log_rates(self, said: Parameters) -> tuple[Floats, Floats]:
        """Log of P(something happens) and of P(nothing does)."""
        return log_rates(said.active_logit)

    @abstractmethod
    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Log of the size's tails below and above the middle of the interval."""

    def size_sample(self, said: Parameters, generator: np.random.Generator) -> Floats:
        """A linked size for each value, (values,)."""
        u = np.clip(generator.random(len(said.location)), LEAST_U, 1 - LEAST_U)
        return self.size_quantile(said, u)

    @abstractmethod
    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """Log of the probability that the size lies within the interval."""

    @abstractmethod
    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """The linked size below which it lies with probability u."""


def log_rates(logit: Floats) -> tuple[Floats, Floats]:
    """Log of a probability and of what it leaves of 1, from its logit."""
    shared = np.log1p(np.exp(-np.abs(logit)))
    return np.minimum(logit, 0) - shared, np.minimum(-logit, 0) - shared


def log_difference(larger: Floats, smaller: Floats) -> Floats:
    """log(exp(larger) - exp(smaller)), of float64."""
    return np.asarray(larger + np.log(-np.expm1(np.minimum(smaller - larger, -1e-300))))


class Bernoulli(Law):
    """Only whether something happened: a metric that was never anything but 0 or 1.

    What was never seen may still come: a size beyond 1 has the chance BEYOND, P(Y >= y) falling as
    1/(y - 1), so that the law does not stand speechless before a 5.
    """

    BEYOND = 1e-4

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        del said
        count = count_of(low, high)
        reached, passed = self._at_least(count), self._at_least(count + 1)
        upper = (reached + passed) / 2
        return np.log1p(-upper), np.log(upper)

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        del said
        count = count_of(low, high)
        return np.asarray(np.log(self._at_least(count) - self._at_least(count + 1)))

    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """See Law."""
        return np.zeros(np.broadcast_shapes(u.shape, said.location.shape))

    def _at_least(self, count: Floats) -> Floats:
        return np.where(count <= 1, 1.0, self.BEYOND / np.maximum(count - 1, 1))


def count_of(low: Floats, high: Floats) -> Floats:
    """The whole number whose interval this is, at least 1; see `Links.bounds`."""
    middle = (low.astype(np.float64) + high) / 2
    return np.maximum(np.round(np.exp(np.minimum(middle, 60))), 1)
