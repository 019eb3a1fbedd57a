"""The negative log-likelihood that a network is trained on: `Forecast.log_likelihood` in TensorFlow.

TensorFlow is an argument, so that only `training` imports it. Every family says what its law in
`anomaly.likelihoods` says, to 1e-4, but for Beta at the edges: the probability of all shares beyond
an edge has no gradient there, and the density at the edge stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly import features
from anomaly.likelihoods import beta, negative_binomial
from anomaly.likelihoods.law import Bernoulli
from anomaly.likelihoods.links import FINEST, HALF_AMOUNT, SHARE_EDGE
from anomaly.likelihoods.location_scale import LEAST_WIDTH, LocationScale, Logistic, Normal

if TYPE_CHECKING:
    from anomaly.likelihoods.forecast import Families
    from anomaly.likelihoods.law import Law

NARROW = 0.03  # standard units: an interval this narrow is its density times its width
DEEP = -8.0  # where float32 needs the asymptotic form of the normal tail
HALF_LOG_2PI = float(np.log(2 * np.pi) / 2)
FURTHEST = float(np.log((1 - SHARE_EDGE) / SHARE_EDGE) + HALF_AMOUNT)  # linked end of all shares


@dataclass(frozen=True, slots=True)
class _Given:
    """Tensors (users, steps, 2, metrics), the third axis of length 1 where they do not depend on it.

    moved, wide: location and spread in the twin's spreads from its location; low, high: the interval
    likewise; location, spread: the twin's, on the linked scale.
    """

    logit: Any
    moved: Any
    wide: Any
    low: Any
    high: Any
    happened: Any
    mask: Any
    location: Any
    spread: Any

    def of(self, tf: Any, metrics: slice | list[int]) -> _Given:
        """Those of some metrics."""
        if isinstance(metrics, slice):
            return self
        names = self.__slots__
        return _Given(*(tf.gather(getattr(self, name), metrics, axis=-1) for name in names))

    def linked(self, tf: Any) -> tuple[Any, Any, Any, Any]:
        """Location, spread, low and high on the linked scale, float64."""
        location, spread = tf.cast(self.location, tf.float64), tf.cast(self.spread, tf.float64)
        moved, wide, low, high = (
            tf.cast(x, tf.float64) for x in (self.moved, self.wide, self.low, self.high)
        )
        return location + spread * moved, spread * wide, location + spread * low, location + spread * high  # fmt: skip


def negative_log_likelihood(tf: Any, out: Any, piece: Any, families: Families) -> tuple[Any, Any]:
    """Summed over a piece of `TrainingData`, and how many values it speaks of.

    Half of it is of each metric by itself, half of each given those before it.
    """
    _, _, low, high, active, mask, active_logit, location, spread = piece
    size = tf.shape(out)
    out = tf.reshape(out, (size[0], size[1], 2, len(families.names), features.OUTPUTS))
    out = tf.clip_by_value(out, -features.MAX_CORRECTION, features.MAX_CORRECTION)
    wide = tf.exp(tf.clip_by_value(out[..., 2], -features.MAX_WIDENING, features.MAX_WIDENING))
    given = _Given(
        active_logit[:, :, None] + out[..., 0], out[..., 1],
        wide * np.array(families.widths, np.float32), low[:, :, None], high[:, :, None],
        active[:, :, None], mask[:, :, None], location[:, :, None], spread[:, :, None],
    )  # fmt: skip
    total = tf.zeros(())
    for law, metrics in families.groups:
        part = given.of(tf, metrics)
        log_p, log_q, within = _likelihood(tf, law.taught_by, part)
        likelihood = part.happened * (log_p + tf.where(part.happened > 0, within, 0.0))
        likelihood += (1 - part.happened) * log_q
        total -= tf.reduce_sum(likelihood * part.mask) / 2
    return total, tf.reduce_sum(mask)


def _likelihood(tf: Any, law: Law, given: _Given) -> tuple[Any, Any, Any]:
    """Log of the chance that something happens, that nothing does, and of the size's interval."""
    log_p, log_q = tf.math.log_sigmoid(given.logit), tf.math.log_sigmoid(-given.logit)
    if isinstance(law, LocationScale):
        return log_p, log_q, _location_scale(tf, law, given)
    if isinstance(law, Bernoulli):
        y = _count(tf, given)
        beyond = tf.math.log(law.BEYOND / (tf.maximum(y - 1, 1.0) * y))
        within = tf.where(y < 2, tf.math.log1p(-tf.cast(law.BEYOND, y.dtype)), beyond)
        return log_p, log_q, tf.cast(within, tf.float32)
    if isinstance(law, beta.Beta):
        return log_p, log_q, _beta(tf, given)
    none, some, size = _negative_binomial(tf, given)
    if isinstance(law, negative_binomial.ZeroInflatedNegativeBinomial):
        capped = log_p > some
        log_p, log_q = tf.where(capped, some, log_p), tf.where(capped, none, log_q)
    return log_p, log_q, size


def _location_scale(tf: Any, law: LocationScale, given: _Given) -> Any:
    scale = given.wide * float(law.standard.unit)
    high = tf.maximum(given.high, given.low + LEAST_WIDTH * given.wide)
    a, b = (given.low - given.moved) / scale, (high - given.moved) / scale
    if isinstance(law.standard, Logistic):
        width = tf.math.log(-tf.math.expm1(tf.minimum(a - b, -LEAST_WIDTH)))
        return tf.math.log_sigmoid(b) + tf.math.log_sigmoid(-a) + width
    a, b = tf.where(a > 0, -b, a), tf.where(a > 0, -a, b)
    width, middle = b - a, (a + b) / 2
    if isinstance(law.standard, Normal):
        log_cdf = _log_ndtr
        density = -tf.square(middle) / 2 - HALF_LOG_2PI + _tilt(tf, middle * width / 2)
    else:
        log_cdf = _log_student
        density = np.log(3 / 8) - 2.5 * tf.math.log1p(tf.square(middle) / 4)
    density += tf.math.log(tf.maximum(width, LEAST_WIDTH))
    narrow = width < NARROW
    upper, lower = log_cdf(tf, b), log_cdf(tf, tf.where(narrow, b - 1, a))
    wide = upper + tf.math.log(-tf.math.expm1(tf.minimum(lower - upper, -LEAST_WIDTH)))
    return tf.where(narrow, density, wide)


def _tilt(tf: Any, x: Any) -> Any:
    """log(sinh(x) / x): how a density that falls as exp(2 x) across an interval adds to it."""
    square = tf.square(tf.clip_by_value(x, -1.0, 1.0))
    return square / 6 - tf.square(square) / 180


def _log_ndtr(tf: Any, z: Any) -> Any:
    """Log of the normal distribution function; neither branch is infinite where not taken."""
    deep = z < DEEP
    near = tf.math.log(tf.math.erfc(-tf.where(deep, -1.0, z) / float(np.sqrt(2))) / 2)
    far = tf.where(deep, z, DEEP)
    square = tf.square(1 / far)
    series = tf.math.log1p(-square * (1 - 3 * square * (1 - 5 * square)))
    return tf.where(deep, -tf.square(far) / 2 - tf.math.log(-far) - HALF_LOG_2PI + series, near)


def _log_student(tf: Any, z: Any) -> Any:
    """See `location_scale.Student`."""
    r = tf.sqrt(4 + tf.square(z))
    v = z / r
    far = 2 * (float(np.log(4)) - tf.math.log(r) - tf.math.log(r - tf.minimum(z, 0.0)))
    near = 2 * tf.math.log1p(tf.maximum(v, 0.0))
    return tf.where(z < 0, far, near) + tf.math.log((2 - v) / 4)


def _count(tf: Any, given: _Given) -> Any:
    """See `law.count_of`; float64, as are the functions below."""
    _, _, low, high = given.linked(tf)
    return tf.maximum(tf.round(tf.exp(tf.clip_by_value((low + high) / 2, -1.0, 60.0))), 1.0)


def _negative_binomial(tf: Any, given: _Given) -> tuple[Any, Any, Any]:
    """Log of P(Y = 0), of P(Y > 0) and of the size's probability; see `negative_binomial.shape`."""
    nb = negative_binomial
    location, spread, _, _ = given.linked(tf)
    y = _count(tf, given)
    middle = tf.clip_by_value(location, -1.0, nb.MOST_LOCATION)
    chance = 1 / (1 + tf.exp(middle))
    excess = tf.clip_by_value(tf.square(spread) - chance, nb.LEAST_EXCESS, nb.MOST_EXCESS)
    r = (1 + tf.sqrt(1 + 2 * excess)) / (2 * excess)
    positive = tf.exp(middle + chance / 2 + 1 / (2 * r) + 1 / (12 * tf.square(r)))
    positive = tf.maximum(positive, 1 + nb.LEAST_ABOVE)

    def step(mean: Any) -> Any:
        none = tf.exp(-r * tf.math.log1p(mean / r))
        some = -tf.math.expm1(-r * tf.math.log1p(mean / r))
        slope = (some - mean * none / (1 + mean / r)) / tf.square(some)
        return tf.maximum(mean - (mean / some - positive) / tf.stop_gradient(slope), nb.LEAST_MEAN)

    mean = nb.near(tf.stop_gradient(positive), tf.stop_gradient(r))
    for _ in range(nb.NEWTON):  # only the last step has a gradient: it is the solution's
        mean = step(tf.stop_gradient(mean))
    none = -r * tf.math.log1p(mean / r)
    some = tf.math.log(-tf.math.expm1(none))
    ways = tf.math.lgamma(y + r) - tf.math.lgamma(r) - tf.math.lgamma(y + 1)
    size = ways + none - y * tf.math.log1p(r / mean) - some
    size += tf.math.log(tf.maximum(float(FINEST) * y, 1.0))
    return tuple(tf.cast(x, tf.float32) for x in (none, some, size))


def _beta(tf: Any, given: _Given) -> Any:
    """The density at the interval's middle times its width; see `beta.shape`."""
    location, spread, low, high = given.linked(tf)
    low = tf.maximum(low, tf.minimum(high, FURTHEST) - 2 * HALF_AMOUNT)
    high = tf.minimum(high, low + 2 * HALF_AMOUNT)
    mean = tf.clip_by_value(tf.sigmoid(location), beta.MEAN_EDGE, 1 - beta.MEAN_EDGE)
    precision = 1 / (tf.square(spread) * mean * (1 - mean)) - 1
    precision = tf.clip_by_value(precision, beta.LEAST_PRECISION, beta.MOST_PRECISION)
    a, b = mean * precision, (1 - mean) * precision
    middle, width = (low + high) / 2, high - low
    share = tf.sigmoid(middle)
    normal = tf.math.lgamma(a) + tf.math.lgamma(b) - tf.math.lgamma(a + b)
    density = a * tf.math.log_sigmoid(middle) + b * tf.math.log_sigmoid(-middle) - normal
    tilt = _tilt(tf, (a * (1 - share) - b * share) * width / 2)
    return tf.cast(density + tf.math.log(width) + tilt, tf.float32)
