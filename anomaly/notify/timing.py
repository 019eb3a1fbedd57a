"""When nothing is sent: quiet hours of a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.months import zone

if TYPE_CHECKING:
    import datetime as dt


def is_quiet(hours: str | None, timezone: str, now: dt.datetime) -> bool:
    """Whether `now` lies within quiet hours such as 22:00-07:00; the end is no longer quiet."""
    if hours is None:
        return False
    begin, _, end = hours.partition("-")
    clock = f"{now.astimezone(zone(timezone)):%H:%M}"
    if begin <= end:
        return begin <= clock < end
    return clock >= begin or clock < end
