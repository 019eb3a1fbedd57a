"""The local calendar: what time of which kind of day each step is for each user.

Behaviour follows the clock on the wall, not UTC, so hours, weekdays and holidays are those of the
user's own time zone; users without one live in the grid's.
"""

from __future__ import annotations

import calendar as gregorian
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import holidays
import numpy as np
import pandas as pd

from anomaly import plugins
from anomaly.exceptions import SettingsError
from anomaly.panel import DAY_SECONDS, Grid, Panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

WEEKDAYS = 7
SATURDAY = 5
MAX_SLOTS_PER_DAY = 24
ONE_DAY = dt.timedelta(days=1)
EventKind = Literal["leave", "holiday", "payday", "announced"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)


@dataclass(frozen=True, slots=True)
class Event:
    """Something known of certain days: leave and holidays are free, on a pay-day people do what they do
    as a month ends, and what happens while an announced event lasts is neither judged nor learnt.

    start, end: seconds UTC, end exclusive. user_id and cohort None: it concerns everyone.
    """

    kind: EventKind
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
    user_cohorts: the peer group of those users whose group is known.
    payday: day of the month on which people are paid, or the working day before it.
    """

    timezone: str = "UTC"
    country: str | None = None
    user_timezones: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    user_cohorts: Mapping[str, str] = field(default_factory=dict)
    payday: int | None = None


@dataclass(frozen=True, slots=True)
class LocalCalendar:
    """The calendar of each user and step, all (users, steps).

    slot: int16, the place in the weekly round whose usual behaviour is learnt (see `slot_count`).
    features: (users, steps, FEATURES) float32, what the network is told of the time.
    """

    slot: NDArray[np.int16]
    features: NDArray[np.float32]


FEATURES = 14
MONTH_END, LEAVE = 10, 13  # places among the features
LAST_DAYS = 3  # of a month


def slots_per_day(step: int) -> int:
    """Slots of a day: its hours, or its steps where they are longer than an hour."""
    return max(1, min(MAX_SLOTS_PER_DAY, DAY_SECONDS // step))


def day_kinds(step: int) -> int:
    """Kinds of day in the round: working and free ones, or the days of the week on a daily grid."""
    return WEEKDAYS if step >= DAY_SECONDS else 2


def slot_count(step: int) -> int:
    """Slots of the round: those of each kind of day, one kind after the other."""
    return day_kinds(step) * slots_per_day(step)


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
    _mark(users, grid, context, slot, features)
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
        (to_end < LAST_DAYS) | _paydays(local, context), np.exp(-to_end / 3.0),
        np.exp(-(local.day.to_numpy() - 1) / 3.0), np.zeros(len(grid)),
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
    """Free days of a country, or of a calendar that somebody else's package brings.

    Raises: SettingsError if there is neither.
    """
    if name in plugins.names("calendars"):
        return set(plugins.load("calendars", name)().days(years))
    try:
        return set(holidays.country_holidays(name, years=years))
    except NotImplementedError as error:
        raise SettingsError(
            f"[calendar] country = {name!r} is no country, and no calendar of this name is installed. "
            "Use an ISO code of two letters such as DE."
        ) from error


def _covered(grid: Grid, events: Sequence[Event]) -> NDArray[np.bool_]:
    """(steps,): True where one of the events covers the step's start."""
    found = np.zeros(len(grid), dtype=bool)
    for event in events:
        found |= (grid.times >= event.start) & (grid.times < event.end)
    return found


def _paydays(local: pd.DatetimeIndex, context: CalendarContext) -> NDArray[np.bool_]:
    """(steps,): True on the day on which people are paid by the settings."""
    if context.payday is None:
        return np.zeros(len(local), dtype=bool)
    years = range(local[0].year, local[-1].year + 1)
    free = set() if context.country is None else days_off(context.country, years)
    days = [payday(year, month, context.payday, free) for year in years for month in range(1, 13)]
    return np.isin(local.date, np.array(days, dtype=object))


def payday(year: int, month: int, day: int, free: set[dt.date]) -> dt.date:
    """When people are paid in a month: on this day of it, or the working day before.

    Args: day: 31 is the last one of any month. free: public holidays.
    """
    last = gregorian.monthrange(year, month)[1]
    paid = dt.date(year, month, min(day, last))
    while paid.weekday() >= SATURDAY or paid in free:
        paid -= ONE_DAY
    return paid


class _Reach:
    """Whom of some users an event concerns."""

    def __init__(self, users: Sequence[str], context: CalendarContext) -> None:
        self._everyone = np.arange(len(users))
        self._rows = {user: row for row, user in enumerate(users)}
        self._groups = np.array([context.user_cohorts.get(user) for user in users], dtype=object)

    def of(self, event: Event) -> NDArray[np.int64]:
        """Their places among the users."""
        if event.user_id is not None:
            rows = [self._rows[event.user_id]] if event.user_id in self._rows else []
            return np.array(rows, dtype=np.int64)
        return (
            self._everyone if event.cohort is None else self._everyone[self._groups == event.cohort]
        )


def _mark(
    users: Sequence[str],
    grid: Grid,
    context: CalendarContext,
    slot: NDArray[np.int16],
    features: NDArray[np.float32],
) -> None:
    """Leave, or a holiday of some, turns a day into a free one for those whom it concerns; a pay-day is
    like the end of a month. What is announced has no mark: it is not judged, see `unjudged`.
    """
    reach = _Reach(users, context)
    for event in context.events:
        if event.kind == "announced" or _is_holiday(event):
            continue
        covered = _covered(grid, [event])
        rows, steps = np.ix_(reach.of(event), np.flatnonzero(covered))
        if event.kind == "payday":
            features[rows, steps, MONTH_END] = 1
            continue
        features[rows, steps, LEAVE] = event.kind == "leave"
        if grid.step >= DAY_SECONDS:
            slot[rows, steps] = WEEKDAYS - 1
        else:
            per_day = slots_per_day(grid.step)
            slot[rows, steps] = slot[rows, steps] % per_day + per_day


def unjudged(panel: Panel, context: CalendarContext) -> Panel:
    """The panel without what happened while an announced event lasted, for those whom it concerned:
    it was known beforehand not to be like other days, so it is neither judged nor learnt from.
    """
    announced = [event for event in context.events if event.kind == "announced"]
    ends = np.append(panel.grid.times[1:], panel.grid.end)
    touched = np.zeros(panel.mask.shape[:2], dtype=np.bool_)
    reach = _Reach(panel.users, context)
    for event in announced:
        lasts = (panel.grid.times < event.end) & (ends > event.start)
        touched[np.ix_(reach.of(event), lasts)] = True
    if not touched.any():
        return panel
    kept = ~touched[..., None]
    return replace(
        panel, values=np.where(kept, panel.values, np.float32(0)), mask=panel.mask & kept
    )
