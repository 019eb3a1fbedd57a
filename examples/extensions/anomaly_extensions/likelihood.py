"""A likelihood: log-logistic sizes, held to be a fifth less spread than the forecast says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from anomaly.likelihoods.law import Law, Parameters
from anomaly.likelihoods.location_scale import LocationScale, Logistic

if TYPE_CHECKING:
    from anomaly.likelihoods.law import Floats

NARROWER = 0.8


class Narrow(Law):
    """Three methods on the size, given that something happened; the rest is Law's."""

    def __init__(self) -> None:
        self.usual = LocationScale(Logistic())

    @property
    def taught_by(self) -> Law:
        """A network learns with this law's likelihood, which the loss knows."""
        return self.usual

    def size_tails(self, said: Parameters, low: Floats, high: Floats) -> tuple[Floats, Floats]:
        """See Law."""
        return self.usual.size_tails(self._narrowed(said), low, high)

    def size_likelihood(self, said: Parameters, low: Floats, high: Floats) -> Floats:
        """See Law."""
        return self.usual.size_likelihood(self._narrowed(said), low, high)

    def size_quantile(self, said: Parameters, u: Floats) -> Floats:
        """See Law."""
        return self.usual.size_quantile(self._narrowed(said), u)

    def _narrowed(self, said: Parameters) -> Parameters:
        return replace(said, spread=said.spread * NARROWER)
