"""Who works there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.detection.strangers.plan import Plan

ZONES = np.array([1, -5, 8])  # of the sites, hours from UTC
DEPARTMENTS = 6
LATE_DEPARTMENT = 5


@dataclass(frozen=True)
class People:
    """(users,) each; (users, metrics): mu and sigma of log size, chance of activity, trend a month.

    begin, length: of a working day, local hours. free_day: of the week, -1: none. machine: runs a
    nightly job.
    """

    site: NDArray[Any]
    zone: NDArray[Any]
    begin: NDArray[Any]
    length: NDArray[Any]
    free_day: NDArray[Any]
    mu: NDArray[Any]
    active: NDArray[Any]
    sigma: NDArray[Any]
    trend: NDArray[Any]
    machine: NDArray[Any]
    evenings: NDArray[Any]
    weekends: NDArray[Any]


def hire(rng: np.random.Generator, plan: Plan, users: int) -> People:
    """Draw people."""
    department = rng.integers(0, DEPARTMENTS, users)
    site = rng.choice(3, users, p=[0.5, 0.3, 0.2])
    late = np.where(department == LATE_DEPARTMENT, 2.0, 0)
    begin = np.clip(rng.normal(8.6, 1.1, users) + late, 5, 13)
    length = np.clip(rng.normal(8.6, 0.8, users), 5, 11)
    begin = np.where(rng.random(users) < 0.04, rng.choice([6, 14, 22], users), begin)  # shifts
    free_day = np.where(rng.random(users) < 0.12, rng.integers(0, 5, users), -1)
    habit = rng.normal(0, 0.6, (DEPARTMENTS, 5))[department]
    sized = np.array([0.3, 0.8, 2.0, -0.2, 1.2]) + habit + rng.normal(0, 0.6, (users, 5))
    often = rng.beta([4, 5, 6, 3, 2], [2, 3, 2, 4, 4], (users, 5)) + 0.05 * habit
    spread = np.array([0.4, 0.5, 0.8, 0.3, 1.2]) * rng.uniform(0.7, 1.3, (users, 5))
    return People(
        site, ZONES[site], begin, length, free_day, sized, np.clip(often, 0.03, 0.97),
        plan.tail * spread,
        trend=rng.normal(0, 0.06, (users, 5)) * (rng.random((users, 5)) < 0.5),
        machine=rng.random(users) < 0.05,
        evenings=np.clip(rng.beta(0.6, 0.6 / plan.evenings - 0.6, users), 0, 0.9),
        weekends=np.clip(rng.beta(0.4, 0.4 / plan.weekends - 0.4, users), 0, 0.9),
    )  # fmt: skip
