"""What surrounds every user: the hours, the sites, and the days that hit all alike.

A shock that reaches everyone is nobody's incident, and a collector that was down says nothing of
the people it watches. Both look like anomalies of each single user, which is why they are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import holidays
import numpy as np
import pandas as pd

from anomaly.simulation.roles import LOGONS, METRICS, ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

HOUR, DAY = 3_600, 86_400
COMPANY = 0  # its stream of randomness; users have their own
DEPARTMENTS = tuple(dict.fromkeys(role.department for role in ROLES))
# (time zone, country, share of the staff); one with a half-hour offset, three with summer time.
PLACES = (
    ("Europe/Berlin", "DE", 0.30),
    ("Europe/London", "GB", 0.20),
    ("America/New_York", "US", 0.25),
    ("Asia/Kolkata", "IN", 0.15),
    ("America/Los_Angeles", "US", 0.10),
)


@dataclass(frozen=True, slots=True)
class Site:
    """A place of work and its local calendar.

    local: (hours,) int64, local wall-clock seconds of each UTC hour's start.
    day_start: (days + 1,) int64, index of the first hour of each local day, and the end.
    holiday: (days,) names of public holidays, '' on other days.
    """

    timezone: str
    country: str
    local: NDArray[np.int64]
    day_start: NDArray[np.int64]
    holiday: tuple[str, ...]

    @property
    def days(self) -> int:
        """Local days that the world touches."""
        return len(self.day_start) - 1


@dataclass(frozen=True, slots=True)
class Shock:
    """Something that befell a department or everyone, in steps start to end (exclusive).

    kind: release, reset, outage, tool, gap. department: '' for all.
    """

    kind: str
    start: int
    end: int
    department: str
    name: str


@dataclass(frozen=True, slots=True)
class Company:
    """The common frame of all users.

    times: (hours,) int64 seconds UTC. sites: one per PLACES.
    server_room: where machines run, by UTC and without holidays. log_factor: per department,
    (hours, metrics): what shocks do to the logarithm of activity. lost: per department, (hours,
    metrics) bool: nothing happened or nothing was collected.
    """

    times: NDArray[np.int64]
    sites: tuple[Site, ...]
    server_room: Site
    shocks: tuple[Shock, ...]
    log_factor: Mapping[str, NDArray[np.float64]]
    lost: Mapping[str, NDArray[np.bool_]]


def stream(seed: int, *which: int) -> np.random.Generator:
    """An independent source of randomness for each place that needs one."""
    return np.random.default_rng([seed, *which])


def make_company(start: np.datetime64, months: int, rng: np.random.Generator) -> Company:
    """Draw the common frame: `months` calendar months (UTC) of hours from `start` (a month)."""
    edges = np.arange(start, start + months + 1).astype("datetime64[s]").astype(np.int64)
    bounds = [int(edge) for edge in edges]
    times = np.arange(bounds[0], bounds[-1], HOUR, dtype=np.int64)
    shape = (len(times), len(METRICS))
    log_factor = {name: np.zeros(shape) for name in DEPARTMENTS}
    lost = {name: np.zeros(shape, dtype=bool) for name in DEPARTMENTS}
    shocks: list[Shock] = []
    for first, last in pairwise(bounds):
        span = ((first - bounds[0]) // HOUR, (last - bounds[0]) // HOUR)
        shocks += _busy_days(rng, times, span, log_factor)
        shocks += _tool_change(rng, span, len(times), log_factor)
        shocks += _losses(rng, times, span, lost)
    sites = tuple(_site(times, zone, country) for zone, country, _ in PLACES)
    return Company(times, sites, _site(times, "UTC", ""), tuple(shocks), log_factor, lost)


def _site(times: NDArray[np.int64], timezone: str, country: str) -> Site:
    """Lay the hours out in local time."""
    index = pd.to_datetime(times, unit="s", utc=True).tz_convert(timezone)
    local = index.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)
    day = local // DAY
    days = np.arange(day[0], day[-1] + 1)
    day_start = np.append(np.searchsorted(day, days), len(times))
    years = range(index[0].year, index[-1].year + 1)
    known = holidays.country_holidays(country, years=years) if country else {}
    names = tuple(str(known.get(d, "")) for d in days.astype("datetime64[D]").astype(object))
    return Site(timezone, country, local, day_start, names)


def _workday(rng: np.random.Generator, times: NDArray[np.int64], span: tuple[int, int]) -> int:
    """The step at which a random Monday-to-Friday of the span begins (UTC)."""
    starts = np.arange(span[0], span[1], 24)
    weekday = (times[starts] // DAY + 3) % 7  # 1970-01-01 was a Thursday
    return int(rng.choice(starts[weekday < 5]))


def _busy_days(
    rng: np.random.Generator,
    times: NDArray[np.int64],
    span: tuple[int, int],
    log_factor: Mapping[str, NDArray[np.float64]],
) -> list[Shock]:
    """An announced release day, and at times an unannounced forced change of passwords."""
    day = _workday(rng, times, span)
    shocks = [Shock("release", day, day + 24, "", "All-hands release day")]
    strength = rng.uniform(0.3, 0.8)
    for department, factor in log_factor.items():
        factor[day : day + 24] += strength * (1.8 if department in ("Engineering", "IT") else 1.0)
    if rng.random() < 0.5:
        day = _workday(rng, times, span)
        shocks.append(Shock("reset", day, day + 24, "", "Passwords expired"))
        for factor in log_factor.values():
            factor[day : day + 24, LOGONS] += 1.0
    return shocks


def _tool_change(
    rng: np.random.Generator,
    span: tuple[int, int],
    hours: int,
    log_factor: Mapping[str, NDArray[np.float64]],
) -> list[Shock]:
    """A department gets another tool: one metric goes to a new level and stays there."""
    department, metric = str(rng.choice(DEPARTMENTS)), int(rng.integers(len(METRICS)))
    step, change = int(rng.integers(*span)), rng.normal(0, 0.5)
    if rng.random() > 0.35:
        return []
    log_factor[department][step:, metric] += change
    return [Shock("tool", step, hours, department, f"New tool: {METRICS[metric]}")]


def _losses(
    rng: np.random.Generator,
    times: NDArray[np.int64],
    span: tuple[int, int],
    lost: Mapping[str, NDArray[np.bool_]],
) -> list[Shock]:
    """An outage in which nobody can work, and a gap in which one metric was not collected."""
    shocks = []
    if rng.random() < 0.7:
        start = _workday(rng, times, span) + int(rng.integers(7, 18))
        end = start + int(rng.integers(1, 4))
        shocks.append(Shock("outage", start, end, "", "Network outage"))
        for mask in lost.values():
            mask[start:end] = True
    start = int(rng.integers(span[0], span[1] - 24))
    end, metric = start + int(rng.integers(3, 24)), int(rng.integers(len(METRICS)))
    everywhere, department = rng.random() < 0.4, str(rng.choice(DEPARTMENTS))
    for name in DEPARTMENTS if everywhere else (department,):
        lost[name][start:end, metric] = True
    whose = "" if everywhere else department
    shocks.append(Shock("gap", start, end, whose, f"Collector down: {METRICS[metric]}"))
    return shocks
