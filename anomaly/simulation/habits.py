"""What is particular to one user: levels, hours, ways.

People of one role differ by factors, not by percents, and a rate estimated for a role fits few of
its members; so a detector has to learn from each user's own past, and has little of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly.simulation.roles import METRICS, USB

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.simulation.roles import Role

LEVEL_SPREAD = np.array([0.4, 0.9, 0.7, 0.5, 0.5])  # sd of log levels within a role, per METRICS
USB_USERS = 0.35  # part of the staff that ever plugs a stick in


@dataclass(frozen=True, slots=True)
class Habits:
    """One user's ways. Hours are of the user's own clock (see `rhythm.own_clock`).

    rates, use: (metrics,) as in Role, the user's own. clumping: (metrics,) shape of the gamma that
    varies counts from hour to hour; small is wild. spread: sd of log bytes. workdays: (7,) bool
    from Monday. stray: chance of activity in a free hour. phase: 0 to 27, places the user in
    rotas. memory, swing: of the day's load, an AR(1) in logarithms: correlation from one day to
    the next, and sd. job_hours: (24,) chance that a machine runs then. backup: hour of the week of
    an automatic upload, or -1.
    """

    role: Role
    rates: NDArray[np.float64]
    use: NDArray[np.float64]
    clumping: NDArray[np.float64]
    spread: float
    start: float
    hours: float
    lunch: float
    punctuality: float
    workdays: NDArray[np.bool_]
    evening: float
    weekend: float
    stray: float
    phase: int
    memory: float
    swing: float
    job_hours: NDArray[np.float64]
    backup: int


def draw_habits(rng: np.random.Generator, role: Role) -> Habits:
    """Draw one member of a role."""
    workdays, hours = _week(rng, role)
    use = np.clip(np.array(role.use) * rng.lognormal(0, 0.25, len(METRICS)), 0, 0.97)
    use[USB] *= rng.random() < USB_USERS
    return Habits(
        role=role,
        rates=np.array(role.rates) * np.exp(rng.normal(0, LEVEL_SPREAD)),
        use=use,
        clumping=rng.uniform(0.8, 4.0, len(METRICS)) * (2.5 if role.is_machine else 1.0),
        spread=rng.uniform(0.4, 0.8) if role.is_machine else rng.uniform(0.7, 1.4),
        start=role.start + rng.normal(0, 0.8),
        hours=hours,
        lunch=rng.uniform(3.0, 4.5),
        punctuality=rng.lognormal(-0.6, 0.5),
        workdays=workdays,
        evening=min(0.8, role.evening * rng.lognormal(0, 0.9)),
        weekend=min(0.6, role.weekend * rng.lognormal(0, 0.9)),
        stray=0.0 if role.is_machine else rng.lognormal(-6, 1.0),
        phase=int(rng.integers(28)),
        memory=rng.uniform(0.3, 0.8),
        swing=rng.uniform(0.1, 0.3) if role.is_machine else rng.uniform(0.15, 0.5),
        job_hours=_job_hours(rng),
        backup=int(rng.integers(168)) if rng.random() < 0.12 else -1,
    )


def _week(rng: np.random.Generator, role: Role) -> tuple[NDArray[np.bool_], float]:
    """Days and hours of work; about one person in eight works part of the time."""
    workdays = np.arange(7) < 5
    hours = max(4.0, role.hours + rng.normal(0, 0.7))
    part_time = rng.random() < 0.12 and not role.is_machine
    if part_time and rng.random() < 0.5:
        return workdays, hours / 2
    if part_time:
        return np.isin(np.arange(7), rng.choice(5, int(rng.integers(2, 5)), replace=False)), hours
    return workdays, hours


def _job_hours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Half of the machines run all day; the others at a few fixed hours."""
    if rng.random() < 0.5:
        return np.full(24, 0.98)
    chance = np.full(24, 0.004)
    chance[rng.choice(24, int(rng.integers(3, 11)), replace=False)] = 0.96
    return chance


def moved(habits: Habits, other: Habits) -> Habits:
    """The same user in another role: new work, the old rest (clock, rota, week)."""
    return replace(
        other,
        start=habits.start,
        phase=habits.phase,
        workdays=habits.workdays,
        rates=np.sqrt(habits.rates * other.rates),
    )
