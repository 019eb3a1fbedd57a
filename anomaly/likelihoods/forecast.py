"""What is expected of a panel: each metric by its own family, all by the same three parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np

from anomaly import plugins
from anomaly.likelihoods.beta import Beta
from anomaly.likelihoods.law import Bernoulli, Law, Parameters
from anomaly.likelihoods.location_scale import LocationScale, Logistic, Normal, Student
from anomaly.likelihoods.names import BY_KIND
from anomaly.likelihoods.negative_binomial import (
    HurdleNegativeBinomial,
    ZeroInflatedNegativeBinomial,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

_LOGISTIC, _NORMAL, _STUDENT = (
    LocationScale(Logistic()),
    LocationScale(Normal()),
    LocationScale(Student()),
)
LAWS: dict[str, Law] = {
    "hurdle-loglogistic": _LOGISTIC,
    "hurdle-lognormal": _NORMAL,
    "hurdle-student": _STUDENT,
    "hurdle-negative-binomial": HurdleNegativeBinomial(),
    "zero-inflated-negative-binomial": ZeroInflatedNegativeBinomial(),
    "bernoulli": Bernoulli(),
    "logistic": _LOGISTIC,
    "gaussian": _NORMAL,
    "student": _STUDENT,
    "logit-logistic": _LOGISTIC,
    "logit-normal": _NORMAL,
    "beta": Beta(),
}


@cache
def law_of(name: str) -> Law:
    """The law of a family: one of LAWS, or one that somebody else's package brings."""
    if name in LAWS:
        return LAWS[name]
    law: Law = plugins.load("likelihoods", name)()
    return law


@dataclass(frozen=True, slots=True)
class Families:
    """The family of each metric, and how many of the twin's spreads its own spread is."""

    names: tuple[str, ...]
    widths: tuple[float, ...]

    @classmethod
    def usual(cls, kinds: Sequence[str]) -> Self:
        """The default of each kind of metric."""
        return cls(tuple(BY_KIND[kind][0] for kind in kinds), (1.0,) * len(kinds))

    @property
    def groups(self) -> tuple[tuple[Law, slice | list[int]], ...]:
        """Laws and the metrics that follow them; one law alone has them all, as a slice."""
        return _groups(self.names)


@lru_cache(maxsize=64)
def _groups(names: tuple[str, ...]) -> tuple[tuple[Law, slice | list[int]], ...]:
    places: dict[Law, list[int]] = {}
    for metric, name in enumerate(names):
        places.setdefault(law_of(name), []).append(metric)
    if len(places) == 1:
        return ((next(iter(places)), slice(None)),)
    return tuple(places.items())


@dataclass(frozen=True, slots=True)
class Forecast:
    """A distribution for each value: (..., metrics) float32, see Parameters and Law."""

    active_logit: NDArray[np.float32]
    location: NDArray[np.float32]
    spread: NDArray[np.float32]
    families: Families

    def at(self, place: Any) -> Forecast:
        """Of some users and steps: an index of the leading axes."""
        return Forecast(
            self.active_logit[place], self.location[place], self.spread[place], self.families
        )

    def metric(self, metric: int) -> Forecast:
        """Of one metric alone; its axis stays, of length 1."""
        one = np.s_[..., metric : metric + 1]
        families = Families((self.families.names[metric],), (self.families.widths[metric],))
        return Forecast(self.active_logit[one], self.location[one], self.spread[one], families)

    def log_tails(
        self, active: NDArray[np.bool_], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See Law.log_tails."""
        lower, upper = self._by_law(
            lambda law, said, *seen: law.log_tails(said, *seen), active, low, high
        )
        return lower, upper

    def log_likelihood(
        self, active: NDArray[np.bool_], low: NDArray[np.float32], high: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """See Law.log_likelihood."""
        return self._by_law(
            lambda law, said, *seen: (law.log_likelihood(said, *seen),), active, low, high
        )[0]

    def quantile(self, probability: float) -> NDArray[np.float32]:
        """See Law.quantile."""
        return self._by_law(lambda law, said: (law.quantile(said, probability),))[0]

    def sample(self, generator: np.random.Generator, draws: int) -> NDArray[np.float32]:
        """See Law.sample."""
        return self._by_law(lambda law, said: (law.sample(said, generator, draws),))[0]

    def _by_law(
        self, ask: Callable[..., tuple[NDArray[np.float32], ...]], *seen: NDArray[Any]
    ) -> tuple[NDArray[np.float32], ...]:
        """Ask each law about its metrics, and put the answers side by side."""
        groups = self.families.groups
        arrays = (self.active_logit, self.location, self.spread)
        if len(groups) == 1:
            return ask(groups[0][0], Parameters(*arrays), *seen)
        answers = [
            ask(
                law,
                Parameters(*(array[..., metrics] for array in arrays)),
                *(array[..., metrics] for array in seen),
            )
            for law, metrics in groups
        ]
        return tuple(
            _beside([metrics for _, metrics in groups], parts)
            for parts in zip(*answers, strict=True)
        )


def _beside(places: Sequence[Any], parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Parts put side by side, each at its places along the last axis."""
    metrics = sum(part.shape[-1] for part in parts)
    out = np.empty((*parts[0].shape[:-1], metrics), np.result_type(*parts))
    for place, part in zip(places, parts, strict=True):
        out[..., place] = part
    return out
