"""Sizes that are symmetric on the linked scale: logistic, normal or Student-t.

On the log scale they are log-logistic (Fisk 1961), log-normal and log-Student, on the logit scale
logit-logistic and logit-normal. A tail is read off at the middle of a value's interval, which is its
mid-p but for a term of second order in the interval's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import log_expit, log_ndtr, logit, ndtri, stdtrit

from anomaly.likelihoods.law import Law, log_difference

if TYPE_CHECKING:
    from anomaly.likelihoods.law import Floats, Parameters

LEAST_WIDTH = 1e-6  # of an interval, in spreads: below, float32 cannot tell its ends apart
FURTHEST = 1e18  # of z; its square is still a float32
DEGREES = 4  # of freedom of Student-t: heavy tails, and still a variance


class Standard(Protocol):
    """A law symmetric about 0. unit: its scale where the standard deviation is to be 1."""

    unit: np.float32

    def log_cdf(self, z: Floats) -> Floats:
        """Log of P(Z <= z), accurate far below 0."""

    def quantile(self, u: Floats) -> Floats:
        """Where P(Z <= z) = u."""


class Logistic:
    """Tails fall as exp(-1.8 z): one wild hour does not bend a fit."""

    unit = np.float32(np.sqrt(3) / np.pi)

    def log_cdf(self, z: Floats) -> Floats:
        """See Standard."""
        return log_expit(z)

    def quantile(self, u: Floats) -> Floats:
        """See Standard."""
        return logit(u)


class Normal:
    """The lightest tails of the three."""

    unit = np.float32(1)

    def log_cdf(self, z: Floats) -> Floats:
        """See Standard."""
        return log_ndtr(z)

    def quantile(self, u: Floats) -> Floats:
        """See Standard."""
        return ndtri(u)


class Student:
    """Student-t of 4 degrees of freedom: tails fall as a power, F = (1 + v)^2 (2 - v) / 4 where
    v = z / sqrt(4 + z^2).
    """

    unit = np.float32(np.sqrt((DEGREES - 2) / DEGREES))

    def log_cdf(self, z: Floats) -> Floats:
        """See Standard."""
        z = np.clip(z, -FURTHEST, FURTHEST)
        r = np.hypot(z, z.dtype.type(2))
        v = z / r
        far = 2 * (
            np.log(z.dtype.type(4)) - np.log(r) - np.log(r - np.minimum(z, 0))
        )  # log (1 + v)^2, v < 0
        near = 2 * np.log1p(np.maximum(v, 0))
        return np.where(z < 0, far, near) + np.log((2 - v) / 4)

    def quantile(self, u: Floats) -> Floats:
        """See Standard."""
        return stdtrit(float(DEGREES), u)


@dataclass(frozen=True, slots=True)
class LocationScale(Law):
    """A standard law moved to the location and widened to the spread."""

    standard: Standard

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        scale = said.spread * self.standard.unit
        z = (np.float32(0.5) * (low + high) - said.location) / scale
        return self.standard.log_cdf(z), self.standard.log_cdf(-z)

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        scale = said.spread.astype(np.float64) * self.standard.unit
        high = np.maximum(high, low + LEAST_WIDTH * said.spread.astype(np.float64))
        a, b = (low - said.location) / scale, (high - said.location) / scale
        flip = a > 0  # the tail nearer to the interval keeps its digits
        a, b = np.where(flip, -b, a), np.where(flip, -a, b)
        return log_difference(self.standard.log_cdf(b), self.standard.log_cdf(a))

    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """See Law."""
        scale = said.spread * self.standard.unit
        return np.asarray(said.location + scale * self.standard.quantile(u))
