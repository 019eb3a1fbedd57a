"""Chooses each metric's family by the likelihood of history that the forecast had not seen.

The twin forecasts each day from the days before it, so all of history is held out; no network is
trained for a family that may lose. A family's width (how many of the twin's spreads its own is) is
fitted to an earlier stretch and its likelihood taken on a later one: families are not judged by how
well the twin's spread, a standard deviation without its outliers, happens to suit them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly import plugins
from anomaly.exceptions import SettingsError
from anomaly.likelihoods.forecast import Families, law_of
from anomaly.likelihoods.law import LOG_TINY, Parameters
from anomaly.likelihoods.names import AUTO, BY_KIND, WHOLE_ONLY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.features import Observed
    from anomaly.likelihoods.links import Links
    from anomaly.metrics import MetricSpec
    from anomaly.twin import TwinForecast

WIDTH_STEP = 0.2  # of the log of a width
MOST_STEPS = 8
FIT_VALUES, JUDGE_VALUES = 5_000, 20_000  # active values of a metric, and as many others
LEAST_VALUES = 100  # active ones in each stretch; fewer choose nothing
LEAST_GAIN = 0.002  # nats per value that another family must be better than the default
LEAST_ERRORS = 1.0  # and standard errors
MANY_USERS = 20  # below, a user's history is cut into BLOCKS independent pieces
BLOCKS = 8


@dataclass(frozen=True, slots=True)
class Chosen:
    """held_out: mean log-likelihood per known value on later history, by metric and family."""

    families: Families
    held_out: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class _Sample:
    """Values of one metric, (values, 1); cluster: which of them belong together."""

    said: Parameters
    active: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    weight: NDArray[np.float64]
    cluster: NDArray[np.int64]

    def log_likelihood(self, family: str, width: float) -> NDArray[np.float64]:
        """(values,) of the family, its spread so many of the forecast's."""
        said = Parameters(
            self.said.active_logit, self.said.location, self.said.spread * np.float32(width)
        )
        each = law_of(family).log_likelihood(said, self.active, self.low, self.high)[:, 0]
        return np.maximum(each, LOG_TINY).astype(np.float64)

    def mean(self, each: NDArray[np.float64]) -> float:
        """Over the values that the sample stands for."""
        return float(np.average(each, weights=self.weight))

    def error(self, each: NDArray[np.float64]) -> float:
        """Standard error of the mean, values of a cluster not taken for independent."""
        apart = self.weight * (each - self.mean(each))
        return float(np.sqrt(np.square(np.bincount(self.cluster, apart)).sum()) / self.weight.sum())


def choose(
    specs: Sequence[MetricSpec], links: Links, said: TwinForecast, seen: Observed, split: int
) -> Chosen:
    """Choose families and widths.

    Args: said, seen: (users, steps, metrics) of history; split: the step at which its later part
        begins; widths are fitted to the half before it.
    The default is kept unless another is better by LEAST_GAIN and LEAST_ERRORS, or the settings name
    one. Raises: SettingsError if they name one that the metric's values rule out.
    """
    names, widths, held_out = [], [], {}
    for metric, spec in enumerate(specs):
        allowed = _allowed(spec, links, seen, metric)
        earlier = _sample(links, said, seen, metric, split // 2, split, FIT_VALUES)
        later = _sample(links, said, seen, metric, split, seen.mask.shape[1], JUDGE_VALUES)
        name = allowed[0] if spec.likelihood == AUTO else spec.likelihood
        width = 1.0
        if min(earlier.active.sum(), later.active.sum()) >= LEAST_VALUES:
            fitted = {family: _width(earlier, family) for family in allowed}
            each = {family: later.log_likelihood(family, fitted[family]) for family in allowed}
            held_out[spec.name] = {family: round(later.mean(each[family]), 5) for family in allowed}
            if spec.likelihood == AUTO:
                name = _best(later, each, allowed)
            width = fitted[name]
        names.append(name)
        widths.append(width)
    return Chosen(Families(tuple(names), tuple(widths)), held_out)


def _allowed(spec: MetricSpec, links: Links, seen: Observed, metric: int) -> tuple[str, ...]:
    """Families that can have made the metric's values, the default first."""
    families = BY_KIND[spec.kind]
    active = seen.active[..., metric]
    if spec.kind == "count" and links.ticks[metric] != 1:
        families = tuple(family for family in families if family not in WHOLE_ONLY)
    elif (seen.low[..., metric][active] > 0).any():  # the interval of 1 ends at log 1.5
        families = tuple(family for family in families if family != "bernoulli")
    if spec.likelihood in plugins.names("likelihoods"):
        families = (*families, spec.likelihood)
    if spec.likelihood not in (AUTO, *families):
        raise SettingsError(
            f"[metric.{spec.name}] likelihood = {spec.likelihood!r}: the values of {spec.name} in history "
            f"rule it out. Take one of: {', '.join((AUTO, *families))}."
        )
    return families


def _sample(
    links: Links, said: TwinForecast, seen: Observed, metric: int, first: int, last: int, most: int
) -> _Sample:
    """At most so many values with activity and as many without, weighted by how many they stand for."""
    at = np.s_[:, first:last, metric]
    active, mask = seen.active[at], seen.mask[at]
    rows, weights = [], []
    for group in (np.flatnonzero(active & mask), np.flatnonzero(~active & mask)):
        every = max(1, -(-len(group) // most))
        rows.append(group[::every])
        weights.append(np.full(len(rows[-1]), len(group) / max(len(rows[-1]), 1)))
    chosen = np.sort(np.concatenate(rows))
    order = np.argsort(np.concatenate(rows), kind="stable")
    low, high = links.only(metric).censored(
        seen.low[at].ravel()[chosen, None], seen.high[at].ravel()[chosen, None]
    )
    users, steps = mask.shape
    blocks = 1 if users >= MANY_USERS else BLOCKS
    cluster = chosen // steps * blocks + chosen % steps * blocks // steps
    parameters = Parameters(
        *(
            array[at].ravel()[chosen, None]
            for array in (said.active_logit, said.location, said.spread)
        )
    )
    return _Sample(
        parameters, active.ravel()[chosen, None], low, high, np.concatenate(weights)[order], cluster
    )


def _width(sample: _Sample, family: str) -> float:
    """The width under which the family makes these values most likely, climbing from 1."""

    def mean(step: int) -> float:
        return sample.mean(sample.log_likelihood(family, _width_at(step)))

    best, most = 0, mean(0)
    for direction in (1, -1):
        while abs(best) < MOST_STEPS and (now := mean(best + direction)) > most:
            best, most = best + direction, now
        if best != 0:
            break
    return _width_at(best)


def _width_at(step: int) -> float:
    return round(float(np.exp(WIDTH_STEP * step)), 3)


def _best(later: _Sample, each: dict[str, NDArray[np.float64]], allowed: Sequence[str]) -> str:
    """The best by enough, else the default: Bernoulli where sizes never vary, having none to learn."""
    default = "bernoulli" if "bernoulli" in allowed else allowed[0]
    best = max(allowed, key=lambda family: later.mean(each[family]))
    gain = each[best] - each[default]
    enough = later.mean(gain) > max(LEAST_GAIN, LEAST_ERRORS * later.error(gain))
    return best if enough else default
