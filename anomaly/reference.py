"""What happened to everyone in a stretch of time, from a fixed sample of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from anomaly.peers import Company
    from anomaly.states import States
    from anomaly.units import UnitChange


@dataclass(frozen=True, slots=True)
class Reference:
    """A sample of users, as all others are compared with them.

    times: (steps,) seconds UTC. users: of the sample, those who were there. common: (steps, 2 metrics)
    shock to take off. evidence: (users, steps) and company to compare with. states: of the whole
    sample, at the end. changes: of units; what is in another unit is unknown to everyone who is read
    with this reference.
    """

    times: NDArray[np.int64]
    users: tuple[str, ...]
    common: NDArray[np.float32]
    evidence: NDArray[np.float32]
    company: Company
    states: States
    changes: tuple[UnitChange, ...] = ()
