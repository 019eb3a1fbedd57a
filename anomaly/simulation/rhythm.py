"""When one user is at work: the chance of activity in each hour.

Everything is said on the user's own clock, which is the site's wall clock moved by rotas, travel
and changed hours. A night shift is then a day like any other on a clock that runs half a day
ahead, and its weekends, lunches and late evenings move with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.simulation.company import DAY, HOUR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.simulation.company import Site
    from anomaly.simulation.habits import Habits
    from anomaly.simulation.life import Life

SHIFTS = np.array([2.0, -5.0, 11.0])  # early, late, night: hours the clock runs ahead
WORKING = 0.93  # chance of activity in an hour in the middle of the working day
WEEK, NIGHTS_ON = 7, 4


@dataclass(frozen=True, slots=True)
class Clock:
    """The user's own time. (hours,) each: day counted from 0, hour of day, weekday from Monday."""

    day: NDArray[np.int64]
    hour: NDArray[np.float64]
    weekday: NDArray[np.int64]

    @property
    def days(self) -> int:
        """Own days touched."""
        return int(self.day[-1]) + 1


def own_clock(habits: Habits, life: Life, site: Site) -> Clock:
    """Move the site's wall clock by the rota and by what the user's life adds."""
    week = (site.local // DAY + 3) // WEEK
    rota = np.zeros(len(site.local))
    if habits.role.rhythm == "rotating":
        rota = SHIFTS[(week + habits.phase) % len(SHIFTS)]
    elif habits.role.rhythm == "night":
        rota = np.full(len(site.local), 11.0)
    seconds = site.local + ((rota + life.shift) * HOUR).astype(np.int64)
    day = seconds // DAY
    first = int(day.min())
    return Clock(np.maximum.accumulate(day - first), seconds % DAY / HOUR, (day + 3) % WEEK)


def presence(
    rng: np.random.Generator, habits: Habits, life: Life, site: Site, clock: Clock
) -> NDArray[np.float64]:
    """The chance of activity, (hours,), in [0, 1]."""
    if habits.role.is_machine:
        return habits.job_hours[clock.hour.astype(np.int64)]
    free = _free_days(rng, habits, site, clock)
    chance = _working_day(rng, habits, clock) * ~free[clock.day]
    chance = np.maximum(chance, _free_day_work(rng, habits, clock) * free[clock.day])
    chance = np.maximum(chance, _evenings(rng, habits, life, clock))
    chance = np.maximum(chance, _on_call(rng, habits, clock))
    chance = np.maximum(chance, habits.stray * (clock.hour > 6))
    return np.where(life.away, 0.3 * habits.stray, chance)


def _free_days(
    rng: np.random.Generator, habits: Habits, site: Site, clock: Clock
) -> NDArray[np.bool_]:
    """Own days without work: weekends, part-timers' days, most holidays, rest days of a rota."""
    at = np.searchsorted(clock.day, np.arange(clock.days))
    day_of_site = np.searchsorted(site.day_start, at, side="right") - 1
    holiday = np.array([name != "" for name in site.holiday])[day_of_site]
    if habits.role.rhythm == "night":
        # Four nights on, three off, whatever the weekday; holidays are nights like others.
        return np.asarray(
            (np.arange(clock.days) + habits.phase) % WEEK >= NIGHTS_ON, dtype=np.bool_
        )
    works_on = 0.5 if habits.role.rhythm == "rotating" else 0.08
    holiday &= rng.random(clock.days) > works_on
    return np.asarray(~habits.workdays[clock.weekday[at]] | holiday, dtype=np.bool_)


def _window(
    clock: Clock, start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The part of each hour that lies between the day's start and end (hours of the own day)."""
    low = np.maximum(clock.hour, start[clock.day])
    high = np.minimum(clock.hour + 1, end[clock.day])
    return np.asarray(np.clip(high - low, 0, 1), dtype=np.float64)


def _working_day(rng: np.random.Generator, habits: Habits, clock: Clock) -> NDArray[np.float64]:
    """From a start that varies by day to an end that varies more, with a thinner hour for lunch."""
    start = habits.start + habits.punctuality * rng.standard_normal(clock.days)
    end = start + habits.hours + 1.3 * habits.punctuality * rng.standard_normal(clock.days)
    lunch = np.abs(clock.hour - start[clock.day] - habits.lunch) < 0.6
    return _window(clock, start, end) * WORKING * np.where(lunch, 0.5, 1.0)


def _free_day_work(rng: np.random.Generator, habits: Habits, clock: Clock) -> NDArray[np.float64]:
    """Some free days see two to six hours of work."""
    start = rng.uniform(9, 17, clock.days)
    end = start + rng.uniform(2, 6, clock.days) * (rng.random(clock.days) < habits.weekend)
    return 0.75 * _window(clock, start, end)


def _evenings(
    rng: np.random.Generator, habits: Habits, life: Life, clock: Clock
) -> NDArray[np.float64]:
    """Evening work comes in runs: after an evening of it another is likelier."""
    draw, chance = rng.random(clock.days), habits.evening
    works = np.zeros(clock.days, dtype=bool)
    for day in range(clock.days):
        after = day > 0 and works[day - 1]
        works[day] = draw[day] < (0.25 + 0.7 * chance if after else 0.8 * chance)
    start = habits.start + habits.hours + rng.uniform(0.5, 3, clock.days)
    lengths = rng.uniform(1, 3.5, clock.days)
    ordinary = 0.8 * _window(clock, start, start + lengths * works)
    late = 0.7 * _window(clock, start - 3, start + lengths)
    return np.where(life.long_days, late, ordinary)


def _on_call(rng: np.random.Generator, habits: Habits, clock: Clock) -> NDArray[np.float64]:
    """In one week of four, nights may be broken for one to three hours."""
    week = (np.arange(clock.days) + habits.phase) // WEEK
    woken = (week % 4 == 0) & (rng.random(clock.days) < habits.role.on_call)
    start = rng.uniform(0, 5, clock.days)
    return 0.9 * _window(clock, start, start + rng.uniform(1, 3, clock.days) * woken)
