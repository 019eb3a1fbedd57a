"""Months, local days and durations: where calendar words become instants.

Instants are aware datetimes in UTC or int64 seconds since 1970 UTC. Months and days are those of a
named zone (`[grid] timezone`), so a month has 28 to 31 days and a day 23 to 25 hours.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from anomaly.exceptions import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAYS_PER_MONTH = 30.44  # on average
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_DURATION = re.compile(r"(\d+)\s*([A-Za-z]+)")
_UNIT_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1,
    "min": 60, "minute": 60, "minutes": 60,
    "h": 3_600, "hour": 3_600, "hours": 3_600,
    "d": 86_400, "day": 86_400, "days": 86_400,
    "w": 604_800, "week": 604_800, "weeks": 604_800,
}  # fmt: skip


@lru_cache(maxsize=1_024)
def zone(name: str) -> ZoneInfo:
    """The time zone of this IANA name, such as Europe/Berlin.

    Raises: UsageError if there is no such zone.
    """
    try:
        return ZoneInfo(name)
    # ZoneInfo meets strange keys with whatever the file system says of them.
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(
            f"time zone {name!r} is not known. Use an IANA name such as UTC or Europe/Berlin."
        ) from error


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """A calendar month: year 1 to 9999, month 1 to 12. Months compare by time."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Read a month written as 2026-10.

        Raises: UsageError if it is written otherwise.
        """
        found = _MONTH.fullmatch(text.strip())
        if found is None or not 1 <= int(found[2]) <= 12 or int(found[1]) < 1:
            raise UsageError(f"month {text!r} is no month. Write year and month: 2026-10.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"

    def start(self, timezone: str) -> dt.datetime:
        """The month's first instant in that zone, as UTC."""
        return _midnight(dt.date(self.year, self.month, 1), timezone)

    def end(self, timezone: str) -> dt.datetime:
        """The first instant after the month in that zone, as UTC."""
        return self.next().start(timezone)

    def next(self) -> Month:
        """The month after this one."""
        return self.plus(1)

    def previous(self) -> Month:
        """The month before this one."""
        return self.plus(-1)

    def plus(self, months: int) -> Month:
        """The month so many months later (earlier where negative)."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(year, month + 1)


def months_between(first: Month, last: Month) -> list[Month]:
    """Every month from first to last, both included; none where last is earlier."""
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    return [first.plus(months) for months in range(count)]


def month_of(instant: dt.datetime | int, timezone: str) -> Month:
    """The month that holds an instant (aware, or seconds since 1970 UTC) in that zone.

    Raises: UsageError if the datetime has no zone.
    """
    local = _aware(instant).astimezone(zone(timezone))
    return Month(local.year, local.month)


def local_days(start: int, end: int, timezone: str) -> NDArray[np.int64]:
    """The starts of all local days that share time with [start, end), as seconds UTC.

    The first day may begin before `start`. Days are 23 to 25 hours long where clocks change.
    """
    if end <= start:
        return np.empty(0, dtype=np.int64)
    tz = zone(timezone)
    first = _aware(start).astimezone(tz).date()
    last = _aware(end - 1).astimezone(tz).date()
    days = (first + dt.timedelta(days=day) for day in range((last - first).days + 1))
    starts = [int(_midnight(day, timezone).timestamp()) for day in days]
    # A day that the zone left out, as Samoa did 30 December 2011, begins when the next one does.
    return np.unique(np.array(starts, dtype=np.int64))


def parse_duration(text: str) -> dt.timedelta:
    """Read a length of time: 30s, 5min, 1h, 1D, 2w.

    Raises: UsageError if it is written otherwise or not positive.
    """
    found = _DURATION.fullmatch(text.strip())
    unit = _UNIT_SECONDS.get(found[2].lower()) if found else None
    if found is None or unit is None or not 0 < int(found[1]) * unit < 10 * 365 * 86_400:
        raise UsageError(
            f"duration {text!r} is none. Write a number and a unit: 30s, 5min, 1h, 1D."
        )
    return dt.timedelta(seconds=int(found[1]) * unit)


def _aware(instant: dt.datetime | int) -> dt.datetime:
    if not isinstance(instant, dt.datetime):
        return dt.datetime.fromtimestamp(int(instant), dt.UTC)
    if instant.tzinfo is None:
        raise UsageError(
            f"instant {instant.isoformat()} has no time zone. Add one, such as +00:00."
        )
    return instant


def _midnight(day: dt.date, timezone: str) -> dt.datetime:
    """The day's first instant, as UTC; where clocks skip midnight, the instant they do it."""
    local = dt.datetime(day.year, day.month, day.day, tzinfo=zone(timezone))
    return local.astimezone(dt.UTC)
