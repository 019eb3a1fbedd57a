"""Numbers, times and names as a reader meets them. Values in, plain text out; nothing here is HTML."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from anomaly.months import Month, zone
from anomaly.wording import percent, score, share  # noqa: F401  (templates find them here)

if TYPE_CHECKING:
    import datetime as dt

    from anomaly.records import Flag

KINDS = {
    "burst": "burst",
    "silence": "silence",
    "shift": "unusual hours",
    "drift": "lasting change",
    "new": "something never seen before",
    "combination": "unusual combination",
}
KIND_MEANINGS = {
    "burst": "much more than usual within a short time",
    "silence": "much less than usual, or nothing where something is normal",
    "shift": "activity in hours in which this user is hardly ever active",
    "drift": "a level that changed and stays changed for days",
    "new": "activity this user has not shown before",
    "combination": "several metrics that do not usually occur together",
}
DIRECTIONS = {"up": "more than expected", "down": "less than expected", "both": "more and less"}
STATE_MEANINGS = {
    "planned": "is planned and has not begun",
    "running": "is being scored now; results appear when it ends",
    "provisional": "has been scored with the data so far; flags may still change",
    "complete": "is complete",
    "failed": "failed; the last results, if any, are shown",
    "missed": "was missed and will be made up",
    "superseded": "was replaced by a later run",
}
EVENTS = {
    "leave": "leave: a free day, compared with other free days",
    "holiday": "holiday: a free day, compared with other free days",
    "payday": "pay-day: expected to be like the end of a month",
    "announced": "announced: not judged while it lasts",
}
SKIPS = {
    "no_rows": "no rows in this month",
    "too_short": "too little history to know what is normal",
    "unknown_metrics": "only metrics that the model does not know",
    "not_selected": "not selected for the run",
    "failed_shard": "their part of the run failed",
}
VERDICTS = {
    "true": "true",
    "false_alarm": "false alarm",
    "expected": "expected",
    "new_normal": "new normal",
}
VERDICT_MEANINGS = {
    "true": "something was wrong, or worth knowing",
    "false_alarm": "nothing happened that matters; similar flags will need more evidence",
    "expected": "it happened and was in order; similar flags will need more evidence",
    "new_normal": "this is how the user works from now on; the baseline starts afresh",
}
OPTIONS = {
    **VERDICTS,
    "shift": KINDS["shift"],
    "drift": KINDS["drift"],
    "only": "only these",
    "no": "without",
}
_SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
GROUPS = {
    "all": "All values",
    "metric": "By metric",
    "cohort": "By cohort",
    "hour": "By local hour",
}
SIDES = {"upper": "too much", "lower": "too little"}
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def number(value: float | None) -> str:
    """A figure to three or four digits: 0.0213, 7.4, 1,240, 3.1 million; 'unknown' where there is none."""
    if value is None or not math.isfinite(value):
        return "unknown"
    for scale, name in _SCALES:
        if abs(value) >= scale:
            return f"{value / scale:,.3g} {name}"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def memory(size: int) -> str:
    """Bytes as a reader meets them: 812 MiB, 1.4 GiB."""
    mebibytes = size / 2**20
    return f"{mebibytes / 1024:.1f} GiB" if mebibytes >= 1024 else f"{mebibytes:,.0f} MiB"


def distance(value: float | None) -> str:
    """How far from the middle of a peer group somebody lives."""
    if value is None:
        return "unknown"
    if value < 1.5:
        return "near its middle"
    return f"{value:.1f} times as far from its middle as most"


def chance(p_value: float) -> str:
    """A tail probability as odds: '1 in 25,000'."""
    if p_value <= 0:
        return "less than 1 in a trillion"
    if p_value > 0.5:
        return "about every time"
    return f"1 in {number(float(f'{1 / p_value:.2g}'))}"


def moment(when: dt.datetime, timezone: str) -> str:
    """An instant in the reader's zone: Thu 12 Mar 2026, 01:00."""
    return f"{when.astimezone(zone(timezone)):%a %-d %b %Y, %H:%M}"


def stretch(start: dt.datetime, end: dt.datetime, timezone: str) -> str:
    """From when to when (end exclusive), naming the day once where it is the same."""
    local = end.astimezone(zone(timezone))
    same = local.date() == start.astimezone(zone(timezone)).date()
    until = f"{local:%H:%M}" if same else moment(end, timezone)
    return f"{moment(start, timezone)} to {until}"


def length(seconds: float) -> str:
    """A duration in its largest fitting unit: 4 hours, 1.5 days."""
    for unit, name in _UNITS:
        if seconds >= unit:
            amount = seconds / unit
            return f"{amount:.3g} {name}{'' if amount == 1 else 's'}"
    return f"{seconds:.3g} seconds"


def month_name(month: str) -> str:
    """2026-03 as March 2026."""
    parsed = Month.parse(month)
    return f"{parsed.start('UTC'):%B %Y}"


def first_metric(flag: Flag) -> str:
    """The metric with the largest share of the surprise: the one that figures and plot are of."""
    return flag.metrics.split(";", 1)[0]


def title(flag: Flag) -> str:
    """A flag in a few words: 'burst of files_read'."""
    return f"{KINDS.get(flag.kind, flag.kind)} of {first_metric(flag)}"


def user_url(user_id: str, month: str | None = None, metric: str | None = None) -> str:
    """The address of a user's page.

    Browsers fold the path segments '.' and '..' away, even percent-encoded, and the router's paths
    end at a line break: such names travel in the query instead.
    """
    named = {"month": month, "metric": metric}
    query = {name: value for name, value in named.items() if value}
    if user_id in {".", ".."} or "\n" in user_id:
        return f"/users?{urlencode({'user': user_id, **query})}"
    return f"/users/{quote(user_id, safe='')}" + (f"?{urlencode(query)}" if query else "")


def cohort_url(cohort: str, month: str) -> str:
    """The address of a peer group's page."""
    return f"/cohorts?{urlencode({'month': month, 'cohort': cohort})}"


def flag_url(flag_id: str) -> str:
    """The address of a flag's page."""
    return f"/flags/{quote(flag_id, safe='')}"
