"""A threshold: nothing is flagged that history has already seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class HighestEver:
    """The highest evidence of later history, and a margin. Made from [threshold] options."""

    def __init__(self, margin: float = 0.5) -> None:
        self.margin = margin

    def level(self, evidence: NDArray[np.float32], seen: NDArray[np.bool_], step: int) -> float:
        """evidence: (users, steps); seen: where a user was present; step: seconds."""
        return float(evidence[seen].max(initial=0.0)) + self.margin
