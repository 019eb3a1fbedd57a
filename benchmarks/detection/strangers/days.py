"""What kind of day it is for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.detection.strangers.plan import END, START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.detection.strangers.people import People
    from benchmarks.detection.strangers.plan import Plan

    Length = Callable[[np.random.Generator], int]

DAYS = pd.date_range(START, END, inclusive="left")
MONTHS = len(DAYS) / 30.4
PERSISTENCE = 0.5  # of a day's intensity, into the next
ABROAD = (-9, -7, -6, -3, 2, 5, 7, 9)  # hours


@dataclass(frozen=True)
class Days:
    """(users, days) each; burst has metrics besides.

    shift: hours by which travel moves the day. returned: the first day after an absence.
    intensity, burst: logarithms.
    """

    there: NDArray[Any]
    shift: NDArray[Any]
    evening: NDArray[Any]
    night: NDArray[Any]
    intensity: NDArray[Any]
    returned: NDArray[Any]
    burst: NDArray[Any]


def live(rng: np.random.Generator, plan: Plan, people: People) -> Days:
    """Draw everyone's days."""
    weekday, users = DAYS.day_of_week.to_numpy(), len(people.site)
    shape = (users, len(DAYS))
    work = (weekday < 5) & (weekday[None] != people.free_day[:, None])
    weekend = (weekday >= 5) & (rng.random(shape) < people.weekends[:, None])
    work &= ~_holidays(rng, people.site, weekday)
    away = _spans(rng, users, plan.leaves, _leave)
    away |= _spans(rng, users, 0.12, _sickness)
    shift = _shifts(rng, _spans(rng, users, plan.travels, _journey))
    there = (work | weekend) & ~away
    evening = there & (rng.random(shape) < people.evenings[:, None])
    night = ~away & (rng.random(shape) < 0.004)  # a release, a deadline
    intensity = _lingering(rng, plan.lingering, shape) + np.where(weekend, -0.7, 0)
    returned = np.zeros(shape, dtype=np.bool_)
    returned[:, 1:] = away[:, :-1] & ~away[:, 1:]
    burst = _bursts(rng, plan, users)
    _add_waves(rng, plan, people.site, burst)
    return Days(there, shift, evening, night, intensity, returned, burst)


def _leave(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 5, 7, 10, 14], p=[0.3, 0.2, 0.2, 0.15, 0.1, 0.05]))


def _sickness(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 4))


def _journey(rng: np.random.Generator) -> int:
    return int(rng.integers(2, 9))


def _project(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 3, 5], p=[0.4, 0.3, 0.2, 0.1]))


def _events(
    rng: np.random.Generator, users: int, rate: float, length: Length
) -> Iterator[tuple[int, slice]]:
    """Whose, and which days."""
    for user in range(users):
        for _ in range(rng.poisson(rate * MONTHS)):
            first = int(rng.integers(len(DAYS)))
            yield user, slice(first, first + length(rng))


def _spans(rng: np.random.Generator, users: int, rate: float, length: Length) -> NDArray[Any]:
    out = np.zeros((users, len(DAYS)), dtype=np.bool_)
    for user, days in _events(rng, users, rate, length):
        out[user, days] = True
    return out


def _holidays(rng: np.random.Generator, site: NDArray[Any], weekday: NDArray[Any]) -> NDArray[Any]:
    """Five a site."""
    out = np.zeros((len(site), len(weekday)), dtype=np.bool_)
    for number in range(3):
        days = rng.choice(np.flatnonzero(weekday < 5), 5, replace=False)
        out[np.ix_(site == number, days)] = True
    return out


def _shifts(rng: np.random.Generator, travel: NDArray[Any]) -> NDArray[Any]:
    """One time zone for each journey."""
    out = np.zeros(travel.shape)
    for user, row in enumerate(travel):
        edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            out[user, first:last] = rng.choice(ABROAD)
    return out


def _lingering(rng: np.random.Generator, deviation: float, shape: tuple[int, int]) -> NDArray[Any]:
    out = rng.normal(0, deviation * np.sqrt(1 - PERSISTENCE**2), shape)
    for day in range(1, shape[1]):
        out[:, day] += PERSISTENCE * out[:, day - 1]
    return out


def _bursts(rng: np.random.Generator, plan: Plan, users: int) -> NDArray[Any]:
    """Projects: some metrics, for some days."""
    out = np.zeros((users, len(DAYS), 5))
    for user, days in _events(rng, users, plan.bursts, _project):
        which = rng.random(5) < 0.45
        which[rng.integers(5)] = True
        out[user, days] += which * rng.gamma(4, plan.burst_size / 4, 5)
    return out


def _add_waves(
    rng: np.random.Generator, plan: Plan, site: NDArray[Any], burst: NDArray[Any]
) -> None:
    """A day on which a whole site does more of something: a migration, a campaign."""
    if not plan.waves:
        return
    for _ in range(rng.poisson(plan.waves * MONTHS)):
        day, where, metric = rng.integers(len(DAYS)), rng.integers(3), rng.integers(5)
        burst[site == where, day, metric] += rng.gamma(4, 0.2, (site == where).sum())
