"""The local calendar: what time of which kind of day each step is for each user.

Behaviour follows the clock on the wall, not UTC, so hours, weekdays and holidays are those of the
user's own time zone; users without one live in the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import holidays
import numpy as np
import pandas as pd

from anomaly import plugins
from anomaly.panel import DAY_SECONDS, Grid

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

WEEKDAYS = 7
SATURDAY = 5
MAX_SLOTS_PER_DAY = 24


@dataclass(frozen=True, slots=True)
class Event:
    """Something known of certain days: leave, a holiday, an announced event.

    start, end: seconds UTC, end exclusive. user_id and cohort None: it concerns everyone.
    """

    kind: Literal["leave", "holiday", "announced"]
    start: int
    end: int
    user_id: str | None = None
    cohort: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class CalendarContext:
    """What is known of days and places.

    timezone: where months and days begin, and where users without a zone of their own live.
    country: ISO code whose public holidays count for everyone, or None.
    """

    timezone: str = "UTC"
    country: str | None = None
    user_timezones: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalCalendar:
    """The calendar of each user and step, all (users, steps).

    slot: int16, the place in the weekly round whose usual behaviour is learnt (see `slot_count`).
    features: (users, steps, FEATURES) float32, what the network is told of the time.
    """

    slot: NDArray[np.int16]
    features: NDArray[np.float32]


FEATURES = 14


def slots_per_day(step: int) -> int:
    """Slots of a day: its hours, or its steps where they are longer than an hour."""
    return max(1, min(MAX_SLOTS_PER_DAY, DAY_SECONDS // step))


def slot_count(step: int) -> int:
    """Slots of the round: hours of working and of free days, or days of the week on a daily grid."""
    return WEEKDAYS if step >= DAY_SECONDS else 2 * slots_per_day(step)


def day_starts(grid: Grid, timezone: str) -> NDArray[np.int64]:
    """Indices of the steps at which a local day begins, the first step among them."""
    if grid.step >= DAY_SECONDS:
        return np.arange(len(grid), dtype=np.int64)
    local = pd.DatetimeIndex(grid.times.astype("datetime64[s]"), tz="UTC").tz_convert(timezone)
    days = local.tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64)
    return np.flatnonzero(np.diff(days, prepend=days[0] - 1)).astype(np.int64)


def local_calendar(users: Sequence[str], grid: Grid, context: CalendarContext) -> LocalCalendar:
    """Lay the calendar over the grid for each user.

    Returns: slots and features, (users, steps), by each user's own zone, holidays and leave.
    """
    zones = [context.user_timezones.get(user, context.timezone) for user in users]
    kinds = sorted(set(zones))
    which = np.array([kinds.index(zone) for zone in zones], dtype=np.int64)
    by_zone = [_zone_calendar(grid, zone, context) for zone in kinds]
    slot = np.stack([slots for slots, _ in by_zone])[which]
    features = np.stack([values for _, values in by_zone])[which]
    _mark_leave(users, grid, context.events, slot, features)
    return LocalCalendar(slot, features)


def _zone_calendar(
    grid: Grid, zone: str, context: CalendarContext
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Slots (steps,) and features (steps, FEATURES) of one time zone."""
    local = pd.DatetimeIndex(grid.times.astype("datetime64[s]"), tz="UTC").tz_convert(zone)
    second = (local.hour * 3600 + local.minute * 60 + local.second).to_numpy()
    weekday = local.day_of_week.to_numpy()
    holiday = _holidays(local, context) | _covered(
        grid, [e for e in context.events if _is_holiday(e)]
    )
    off = (weekday >= SATURDAY) | holiday
    if grid.step >= DAY_SECONDS:
        slot = np.where(holiday, WEEKDAYS - 1, weekday)
    else:
        per_day = slots_per_day(grid.step)
        slot = off * per_day + np.minimum(second * per_day // DAY_SECONDS, per_day - 1)
    angle = 2 * np.pi * second / DAY_SECONDS
    turn = 2 * np.pi * weekday / WEEKDAYS
    to_end = (local.days_in_month - local.day).to_numpy()
    columns = [
        np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle),
        np.sin(turn), np.cos(turn), off, holiday, weekday == 0, weekday == SATURDAY - 1,
        to_end < 3, np.exp(-to_end / 3.0), np.exp(-(local.day.to_numpy() - 1) / 3.0),
        np.zeros(len(grid)),
    ]  # fmt: skip
    features = np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)
    return slot.astype(np.int16), features


def _is_holiday(event: Event) -> bool:
    return event.kind == "holiday" and event.user_id is None and event.cohort is None


def _holidays(local: pd.DatetimeIndex, context: CalendarContext) -> NDArray[np.bool_]:
    if context.country is None:
        return np.zeros(len(local), dtype=bool)
    years = range(local[0].year, local[-1].year + 1)
    days = days_off(context.country, years)
    return np.isin(local.date, np.array(sorted(days), dtype=object))


def days_off(name: str, years: range) -> set[dt.date]:
    """Free days of a country, or of a calendar that somebody else's package brings."""
    if name in plugins.names("calendars"):
        return set(plugins.load("calendars", name)().days(years))
    return set(holidays.country_holidays(name, years=years))


def _covered(grid: Grid, events: Sequence[Event]) -> NDArray[np.bool_]:
    """(steps,): True where one of the events covers the step's start."""
    found = np.zeros(len(grid), dtype=bool)
    for event in events:
        found |= (grid.times >= event.start) & (grid.times < event.end)
    return found


def _mark_leave(
    users: Sequence[str],
    grid: Grid,
    events: Sequence[Event],
    slot: NDArray[np.int16],
    features: NDArray[np.float32],
) -> None:
    """Leave, or a holiday where the user lives, turns a day into a free one for that user."""
    rows = {user: row for row, user in enumerate(users)}
    for event in events:
        row = rows.get(event.user_id or "")
        if row is None or event.kind == "announced":
            continue
        covered = (grid.times >= event.start) & (grid.times < event.end)
        features[row, covered, FEATURES - 1] = event.kind == "leave"
        if grid.step >= DAY_SECONDS:
            slot[row, covered] = WEEKDAYS - 1
        else:
            per_day = slots_per_day(grid.step)
            slot[row, covered] = slot[row, covered] % per_day + per_day
