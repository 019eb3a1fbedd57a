"""The level at which flags begin, by the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from anomaly import plugins
from anomaly.thresholds import budget, dynamic, fdr, tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anomaly.settings import ThresholdSettings

FEW_USERS = 20  # below, a budget per user-months says nothing


@dataclass(frozen=True, slots=True)
class Boundary:
    """level: the evidence at which flags begin. prune: how far flags must stand out from the next
    lower evidence of their user's month, as a share; 0: they need not.
    """

    level: float
    prune: float = 0.0


class Threshold(Protocol):
    """A way of one's own, made from [threshold] options; see docs/extending.md."""

    def level(self, evidence: NDArray[np.float32], seen: NDArray[np.bool_], step: int) -> float:
        """The evidence at which flags begin: fixed on later history, before the month is seen."""
        ...


def choose(
    settings: ThresholdSettings, evidence: NDArray[np.float32], seen: NDArray[np.bool_], step: int
) -> Boundary:
    """Fix the boundary on later history.

    Args: evidence (users, steps), each part judged by tails fitted to the others; seen: same shape,
        where a user was present and something known; step: seconds.
    """
    kind = settings.kind or ("budget" if len(evidence) >= FEW_USERS else "tail")
    match kind:
        case "budget":
            allowed = settings.false_flags_per_1000_user_months
            return Boundary(budget.level(evidence, seen, step, allowed))
        case "fdr":
            return Boundary(fdr.level(evidence, seen, step, settings.fdr, settings.correction))
        case "tail":
            return Boundary(tail.level(evidence, seen, step, settings.tail))
        case "dynamic":
            return Boundary(dynamic.level(evidence, seen), dynamic.PRUNE)
        case _:
            rule: Threshold = plugins.load("thresholds", kind)(**settings.options)
            return Boundary(float(rule.level(evidence, seen, step)))
