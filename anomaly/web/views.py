"""What a page shows, worked out from rows: plots, comparisons, figures. No HTML, no database."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from anomaly.calibration_report import DEPTHS, WITHIN
from anomaly.heatmap import WEEKS
from anomaly.months import zone
from anomaly.ports import PUBLISHED, UNKNOWN
from anomaly.records import FLAG_COLUMNS, SEVERITIES, Band, Flag, UserMonth
from anomaly.web import words
from anomaly.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.calibration_report import Calibration, Row
    from anomaly.heatmap import HeatMap
    from anomaly.ports import (
        ChangeRow,
        ConsequenceRow,
        EventRow,
        FlagRow,
        RunRow,
        SaidRow,
        SuppressionRow,
        UserMonthRow,
    )

CHANGE_FIELDS = (
    "run_id", "kind", "flag_id", "month", "user_id", "start", "end", "severity", "score", "metrics",
    "earlier_run", "earlier_flag_id", "earlier_start", "earlier_end", "earlier_severity",
    "earlier_score",
)  # fmt: skip
SMALL_GROUP = 4  # others; a cohort has five members, else everyone is the peer group


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of 'compared with whom': percentile 0 to 100, or None where nobody can say."""

    name: str
    percentile: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Plot:
    """One flag drawn: `data` goes to the script as JSON, `rows` into the table of the same numbers."""

    flag: Flag
    metric: str
    zone: str
    data: dict[str, Any]
    rows: list[PlotRow]


@dataclass(frozen=True, slots=True)
class PlotRow:
    """One step of a plot, as text."""

    time: str
    observed: str
    expected: str
    band: str
    peers: str
    flagged: bool


def plot(flag: Flag, band: Band, timezone: str) -> Plot:
    """Lay a flag over its band.

    Times are wall-clock times at the UTC offset that holds when the flag begins, so that the axis
    never runs backwards where clocks change; `zone` names that offset.
    """
    offset = flag.start.astimezone(zone(timezone)).utcoffset() or dt.timedelta()
    step = int(np.median(np.diff(band.times))) if len(band.times) > 1 else 3_600
    begin, end = flag.start.timestamp(), flag.end.timestamp()
    local = [_wall(int(time), offset) for time in band.times]
    inside = [begin <= time < end for time in band.times]
    metric = words.first_metric(flag)
    data: dict[str, Any] = {
        "times": local,
        "end": _wall(int(band.times[-1]) + step, offset) if local else None,
        "observed": _numbers(band.observed),
        "expected": _numbers(band.expected),
        "lower": _numbers(band.lower),
        "upper": _numbers(band.upper),
        "peers": None if band.peers is None else [_numbers(line) for line in band.peers],
        "flagged": [_wall(int(begin), offset), _wall(int(end), offset)],
        "metric": metric,
        "per": words.length(step).removeprefix("1 "),
        "zone": _offset_name(timezone, offset),
    }
    rows = [
        PlotRow(
            time=when.replace("T", " ")[:16],
            observed=words.number(float(band.observed[i])),
            expected=words.number(float(band.expected[i])),
            band=f"{words.number(float(band.lower[i]))} to {words.number(float(band.upper[i]))}",
            peers="" if band.peers is None else words.number(float(band.peers[0][i])),
            flagged=inside[i],
        )
        for i, when in enumerate(local)
    ]
    return Plot(flag, metric, data["zone"], data, rows)


@dataclass(frozen=True, slots=True)
class Map:
    """A user's month hour by day: `data` goes to the script, `rows` into the table of the numbers.

    numbers: of each flag in the map, by flag_id. days: the heads of the table's columns.
    """

    metric: str
    data: dict[str, Any]
    numbers: dict[str, int]
    days: list[str]
    rows: list[tuple[str, list[str]]]
    compared: bool


def month_map(found: HeatMap, metric: str, flags: Sequence[Flag], timezone: str) -> Map:
    """Lay flags over a user's month. Flags are numbered in order of time."""
    days = [f"{day:%a %-d}" for day in found.days]
    parts = [f"{part * found.hours:02d}:00" for part in range(len(found.observed))]
    ordered = sorted(flags, key=lambda flag: (flag.start, flag.flag_id))
    data = {
        "metric": metric,
        "days": [f"{day:%a %-d %B}" for day in found.days],
        "ticks": [f"{day:%-d}" for day in found.days],
        "weekend": [day.weekday() >= 5 for day in found.days],
        "parts": parts,
        "hours": found.hours,
        "weeks": WEEKS,
        "observed": [_numbers(row) for row in found.observed],
        "usual": [_numbers(row) for row in found.usual],
        "departure": [_numbers(np.round(row, 3)) for row in found.departure],
        "flags": [
            {
                "number": number,
                "url": words.flag_url(flag.flag_id),
                "title": words.title(flag),
                "named": metric in flag.metrics.split(";"),
                "outline": _outline(flag, found, timezone),
            }
            for number, flag in enumerate(ordered, start=1)
        ],
    }
    rows = [
        (part, [words.number(v) if math.isfinite(v) else "" for v in found.observed[row].tolist()])
        for row, part in enumerate(parts)
    ]
    numbers = {flag.flag_id: number for number, flag in enumerate(ordered, start=1)}
    return Map(metric, data, numbers, days, rows, bool(np.isfinite(found.usual).any()))


def _outline(flag: Flag, found: HeatMap, timezone: str) -> list[tuple[float, float]]:
    """Corners (day, part) of the stretch of a flag, which runs down each day and on with the next."""
    bottom = len(found.observed)

    def corner(when: dt.datetime) -> tuple[int, float]:
        local = when.astimezone(zone(timezone))
        hour = local.hour + local.minute / 60
        return (local.date() - found.days[0]).days, hour / found.hours if bottom > 1 else 0.0

    (first, top), (last, end) = corner(flag.start), corner(flag.end)
    if end == 0:
        last, end = last - 1, float(bottom)
    if first == last:
        return [(first, top), (first + 1, top), (first + 1, end), (first, end)]
    return [
        (first, top), (first + 1, top), (first + 1, 0), (last + 1, 0),
        (last + 1, end), (last, end), (last, bottom), (first, bottom),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Truth:
    """How true tail probabilities are. `data` goes to the script as JSON; tables: a title and lines
    of group, side and a cell for each depth (text, whether it is off).
    """

    error: float
    factor: float
    within: float
    aim: float
    data: dict[str, Any]
    depths: list[str]
    tables: list[tuple[str, list[tuple[str, str, list[tuple[str, bool]]]]]]


def calibration(found: Calibration) -> Truth | None:
    """Lay out the table and plot of a model's calibration, or None where it was not measured."""
    if not found.groups:
        return None
    lines: dict[str, dict[tuple[str, str], list[Row]]] = {}
    for row in found.rows():
        if row.side != "both":
            lines.setdefault(row.kind, {}).setdefault((row.group, row.side), []).append(row)
    data = {
        "depths": list(DEPTHS),
        "within": WITHIN,
        "kinds": {
            kind: [_curve(group, side, rows) for (group, side), rows in groups.items()]
            for kind, groups in lines.items()
        },
    }
    tables = [
        (
            words.GROUPS[kind],
            [
                (group, words.SIDES[side], [_ratio(row) for row in rows])
                for (group, side), rows in groups.items()
            ],
        )
        for kind, groups in lines.items()
    ]
    depths = [words.chance(depth) for depth in DEPTHS]
    return Truth(
        found.error, float(10**found.error), WITHIN, math.log10(WITHIN), data, depths, tables
    )


def _curve(group: str, side: str, rows: list[Row]) -> dict[str, Any]:
    shown = [row for row in rows if row.enough]
    return {
        "name": f"{group}, {words.SIDES[side]}",
        "side": side,
        "off": any(row.off for row in rows),
        "promised": [row.promised for row in shown],
        # On a scale of factors there is no place for 0: it is drawn at a tenth.
        "ratio": [max(row.ratio, 0.1) for row in shown],
        "label": [f"{row.observed:,} seen, {row.expected:,.0f} promised" for row in shown],
    }


def _ratio(row: Row) -> tuple[str, bool]:
    return f"{row.ratio:.2f}" if row.enough else "", row.off


def instant(seconds: int) -> dt.datetime:
    """An instant from seconds since 1970 UTC."""
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


@dataclass(frozen=True, slots=True)
class Glance:
    """A flag on one line: where the usual range lies, what was expected and what was observed, each from
    0 to 100 of the line's width. text: the same in words.
    """

    lower: float
    upper: float
    expected: float
    observed: float
    text: str


def glance(flag: Flag) -> Glance:
    """Lay the figures of a flag on one line that begins at zero, or below where they do."""
    values = (flag.lower, flag.upper, flag.expected, flag.observed)
    low, high = min(0.0, *values), max(*values, 0.0)
    width = (high - low) * 1.05 or 1.0
    lower, upper, expected, observed = (round(100 * (value - low) / width, 2) for value in values)
    text = (
        f"{words.first_metric(flag)}: {words.number(flag.observed)} observed; "
        f"{words.number(flag.lower)} to {words.number(flag.upper)} usual, "
        f"{words.number(flag.expected)} expected"
    )
    return Glance(lower, upper, expected, observed, text)


def comparisons(flag: Flag) -> list[Comparison]:
    """The flag against the user's own past, the peers and everyone."""
    peers = (
        f"the {flag.peer_count} users most like this one"
        if flag.peer_count >= SMALL_GROUP
        else "all users, as the peer group is too small"
    )
    return [
        _comparison("This user's own past", flag.self_percentile, "what this user did before"),
        _comparison("Peers", flag.peer_percentile, peers),
        _comparison("Everyone", flag.all_percentile, "all users of the month"),
    ]


def severities(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """How many flags of each severity, the gravest first, without those that have none."""
    return [(name, counts[name]) for name in reversed(SEVERITIES) if counts.get(name)]


def skipped(rows: Iterable[UserMonthRow]) -> list[tuple[str, int]]:
    """Why users were not scored, in words, with how many."""
    counts = Counter(row.user_month.skipped for row in rows if row.user_month.skipped)
    return [(words.SKIPS.get(reason, reason), number) for reason, number in counts.most_common()]


def flag_record(row: FlagRow) -> dict[str, Any]:
    """A flag as the API gives it: the export's columns."""
    fields = asdict(row.flag)
    return {
        **{column: _plain(fields[column]) for column in FLAG_COLUMNS},
        "month": row.month,
        "status": row.status,
        "label": row.label,
        "assignee": row.assignee,
        "suppressed_by": row.suppressed_by,
    }


def said_record(row: SaidRow) -> dict[str, Any]:
    """One thing that was said of a flag, as the API gives it."""
    return {
        "verdict": row.verdict,
        "status": row.status,
        "assignee": row.assignee,
        "note": row.note,
        "author": row.author,
        "given_at": _plain(row.given_at),
    }


def consequence_record(row: ConsequenceRow) -> dict[str, Any]:
    """What followed from a verdict, as the API gives it."""
    return {
        "flag_id": row.flag_id,
        "verdict": row.verdict,
        "suppression": row.suppression,
        "quieted": row.quieted,
        "baseline": _plain(row.baseline),
    }


def suppression_record(row: SuppressionRow) -> dict[str, Any]:
    """A suppression as the API gives it."""
    fields = {name: _plain(value) for name, value in asdict(row.suppression).items()}
    return {
        "id": row.id,
        **fields,
        "created_at": _plain(row.created_at),
        "revoked_at": _plain(row.revoked_at),
        "revoked_by": row.revoked_by,
        "quiets": row.quiets,
    }


def user_record(row: UserMonthRow) -> dict[str, Any]:
    """A user's month as the API gives it."""
    fields = {name: _plain(value) for name, value in asdict(row.user_month).items()}
    return {"month": row.month, "rank": row.rank, **fields}


def events_of(found: Sequence[EventRow], user_id: str, cohort: str | None) -> list[EventRow]:
    """Those of the calendar's events that concern a user."""
    return [
        event
        for event in found
        if event.user_id == user_id or (event.user_id is None and event.cohort in (None, cohort))
    ]


def user_table(records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Users' months as the API gives them, as a table."""
    names = ("month", "rank", *(field.name for field in fields(UserMonth)))
    return pa.table({name: [record[name] for record in records] for name in names})


def place_of_user(row: UserMonthRow, column: str) -> tuple[int, float | str, str]:
    """By what a user's month is known in a list that is sorted by this column."""
    holder = row if column == "rank" else row.user_month
    value = getattr(holder, column)
    return int(row.rank is None), UNKNOWN if value is None else value, row.user_month.user_id


def run_record(run: RunRow) -> dict[str, Any]:
    """A run as the API gives it; where the work was done stays inside."""
    return {
        "id": run.id,
        "job": run.job,
        "month": run.month,
        "state": run.state,
        "planned_for": _plain(run.planned_for),
        "started_at": _plain(run.started_at),
        "finished_at": _plain(run.finished_at),
        "seconds": _plain(run.seconds),
        "rows_read": run.rows_read,
        "rows_rejected": dict(run.rows_rejected),
        "users_scored": run.users_scored,
        "users_skipped": dict(run.users_skipped),
        "flags": run.flags,
        "watermark": _plain(run.watermark),
        "model_version": run.model_version,
        "configuration": run.configuration,
        "code_version": run.code_version,
        # What went wrong with a run that failed may name a place.
        "note": run.note if run.state in PUBLISHED else None,
    }


def change_record(row: ChangeRow) -> dict[str, Any]:
    """A flag that scoring a month again made different, as the API gives it."""
    return {name: _plain(getattr(row, name)) for name in CHANGE_FIELDS}


def series_record(band: Band) -> dict[str, list[Any] | None]:
    """A band as the API gives it: times in UTC, null where nothing is known."""
    return {
        "times": [_plain(dt.datetime.fromtimestamp(int(time), dt.UTC)) for time in band.times],
        "observed": _numbers(band.observed),
        "expected": _numbers(band.expected),
        "lower": _numbers(band.lower),
        "upper": _numbers(band.upper),
        "peers_middle": None if band.peers is None else _numbers(band.peers[0]),
        "peers_high": None if band.peers is None else _numbers(band.peers[1]),
    }


def _comparison(name: str, percentile: float, whom: str) -> Comparison:
    if not math.isfinite(percentile):
        return Comparison(name, None, f"Nothing to compare with: {whom}.")
    return Comparison(name, percentile, f"More unusual than {percent(percentile)} of {whom}.")


def _wall(time: int, offset: dt.timedelta) -> str:
    local = dt.datetime.fromtimestamp(time, dt.UTC) + offset
    return local.replace(tzinfo=None).isoformat()


def _offset_name(timezone: str, offset: dt.timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    if timezone == "UTC" or not minutes:
        return timezone
    sign = "-" if minutes < 0 else "+"
    return f"{timezone}, UTC{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _numbers(values: NDArray[np.floating[Any]]) -> list[float | None]:
    """Floats to six digits (all that float32 holds), None where not finite: JSON has no NaN."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
