"""One user's metric, hour by day, beside what is usual for this user at that hour of the week."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.months import local_days, zone

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from anomaly.metrics import Absent, Aggregate
    from anomaly.months import Month

WEEKS = 8  # before the month, from which the usual is taken
LEAST_WEEKS = 3  # known values that it takes to call something usual
DAY_HOURS = 24
MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Parts of the day against the days of a month, in local time.

    days: (days,) the month's dates. hours: length of a part. observed, usual, departure: (parts,
    days) float64, NaN where unknown. usual: the median of the same part of the week in the WEEKS
    weeks before the month. departure: observed less usual in this user's usual deviations.
    """

    days: tuple[dt.date, ...]
    hours: int
    observed: NDArray[np.float64]
    usual: NDArray[np.float64]
    departure: NDArray[np.float64]


def span(month: Month, timezone: str) -> tuple[dt.datetime, dt.datetime]:
    """The instants [start, end) whose rows a heat map of the month needs, aware UTC."""
    start = month.start(timezone)
    return start - dt.timedelta(weeks=WEEKS), month.end(timezone)


def heat_map(
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    month: Month,
    timezone: str,
    step: int,
    until: int,
    aggregate: Aggregate | None = None,
    absent: Absent | None = None,
) -> HeatMap:
    """Lay out the rows of one user and metric over `span(month)`.

    Args: times: (rows,) seconds UTC; values: (rows,). step: of the grid, seconds. until: seconds UTC
        after which nothing can be known yet. aggregate, absent: as set for the metric; by default
        as training infers them, from these rows alone.
    """
    hours = _part_hours(step)
    parts = DAY_HOURS // hours
    count = not (values % 1).any() and not (values < 0).any()
    aggregate = aggregate or ("sum" if count else "mean")
    zero = (absent or ("missing" if not count or (values == 0).any() else "zero")) == "zero"
    start, end = (int(edge.timestamp()) for edge in span(month, timezone))
    days = local_days(start, end, timezone)
    dates = [dt.datetime.fromtimestamp(int(day), zone(timezone)).date() for day in days]
    known = _table(times, values, timezone, hours, aggregate).reindex(
        index=range(parts), columns=dates
    )
    table = known.to_numpy(dtype=np.float64)
    if zero and len(times):
        table = np.where(np.isnan(table) & _over(days, hours, parts, times.min(), until), 0, table)
    first = int(np.searchsorted(days, int(month.start(timezone).timestamp())))
    weekday = np.array([date.weekday() for date in dates])
    usual = np.full(table.shape, np.nan)
    for day in range(7):
        past = table[:, :first][:, weekday[:first] == day]
        enough = (~np.isnan(past)).sum(1) >= LEAST_WEEKS
        middle = np.full(parts, np.nan)
        middle[enough] = np.nanmedian(past[enough], axis=1)
        usual[:, weekday == day] = middle[:, None]
    departure = _departure(table, usual, first, count)
    return HeatMap(
        tuple(dates[first:]), hours, table[:, first:], usual[:, first:], departure[:, first:]
    )


def _part_hours(step: int) -> int:
    """The shortest part of a day, in hours, that holds whole steps."""
    return next(h for h in (1, 2, 3, 4, 6, 8, 12, 24) if h * 3_600 >= step or h == DAY_HOURS)


def _table(
    times: NDArray[np.int64],
    values: NDArray[np.float64],
    timezone: str,
    hours: int,
    aggregate: Aggregate,
) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 (slow to import; the page starts without)

    local = pd.DatetimeIndex(times.astype("datetime64[s]"), tz="UTC").tz_convert(timezone)
    rows = pd.DataFrame({"part": local.hour // hours, "day": local.date, "value": values})
    return rows.pivot_table("value", "part", "day", aggfunc=aggregate)


def _over(
    days: NDArray[np.int64], hours: int, parts: int, first: int, until: int
) -> NDArray[np.bool_]:
    """Parts of days between the first row and the last instant that can be known."""
    at = days[None, :] + 3_600 * hours * np.arange(parts)[:, None]
    return np.asarray((at + 3_600 * hours > first) & (at < until))


def _departure(
    table: NDArray[np.float64], usual: NDArray[np.float64], first: int, count: bool
) -> NDArray[np.float64]:
    """Counts on the scale of square roots, where Poisson deviations are 1 (Anscombe 1948)."""
    apart = 2 * (np.sqrt(table) - np.sqrt(usual)) if count else table - usual
    past = np.abs(apart[:, :first])
    past = past[~np.isnan(past)]
    spread = MAD_TO_SD * float(np.median(past)) if len(past) else 0.0
    least = 1.0 if count else 1e-9 + 0.01 * float(np.nanmax(np.abs(table), initial=0.0))
    return apart / max(spread, least)
