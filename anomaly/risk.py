"""How likely it is that a user's month holds more than chance brings.

The law of an ordinary month's highest evidence (Gumbel 1958) is fitted to the middle of everyone's
months, out of reach of incidents. Of the months at least as odd as a user's, chance explains as many
as that law promises; the share it does not explain is the risk (tail-area false discovery rate, Efron
2010). Where users are few it is the chance that no hour of an ordinary month is so improbable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.thresholds.blocks import Gumbel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_USERS = 20  # whose months a law can be fitted to
MOST = 0.999  # nobody is certain


@dataclass(frozen=True, slots=True)
class Risk:
    """What a month's highest evidence means among the months of everyone.

    law: of ordinary months. highest: (users,) rising; reached: (users,) the risk at each of them, which
    never falls.
    """

    law: Gumbel
    highest: NDArray[np.float64]
    reached: NDArray[np.float64]

    @classmethod
    def among(cls, highest: NDArray[np.float32]) -> Risk | None:
        """Measured on everyone's months, (users,); None where they are too few."""
        if len(highest) < LEAST_USERS:
            return None
        ordered = np.sort(highest.astype(np.float64))
        law = Gumbel.fit(ordered)
        seen = len(ordered) - np.arange(len(ordered))
        unexplained = 1 - np.minimum(len(ordered) * law.exceeded(ordered) / seen, 1)
        return cls(law, ordered, np.maximum.accumulate(unexplained))

    def of(self, evidence: float) -> float:
        """The risk of a month with this highest evidence, 0 to 1."""
        below = int(np.searchsorted(self.highest, evidence, side="right"))
        seen = max(len(self.highest) - int(np.searchsorted(self.highest, evidence)), 1)
        chance = len(self.highest) * float(self.law.exceeded(np.array([evidence]))[0])
        least = float(self.reached[below - 1]) if below else 0.0
        return min(max(least, 1 - min(chance / seen, 1.0)), MOST)


def alone(p_value: float, steps: int) -> float:
    """The risk of a month among too few: that no step of an ordinary month is so improbable."""
    return min(float((1 - p_value) ** steps), MOST)
