"""Files that say which days are not like others: CSV, or iCalendar (RFC 5545)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dateutil.rrule import rrulestr
from icalendar import Calendar

from anomaly.calendar import EVENT_KINDS
from anomaly.exceptions import DataError
from anomaly.months import zone
from anomaly.sources.records import Cell, decoded, read_bytes, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

REQUIRED, OPTIONAL = ("kind", "start"), ("end", "name", "user_id", "cohort")  # columns
ONE_DAY = dt.timedelta(days=1)
LONGEST = dt.timedelta(days=366)  # of one event
MOST_REPEATS = 1_000  # of one repeating event: a thousand weeks are nineteen years
LAST_YEAR = 2100


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """Days of one kind, of a user, a cohort or (both None) everyone.

    start, end: aware UTC, end exclusive.
    """

    kind: str
    start: dt.datetime
    end: dt.datetime
    name: str = ""
    user_id: str | None = None
    cohort: str | None = None


def read_calendar(path: Path, timezone: str = "UTC") -> list[CalendarEntry]:
    """Read a calendar: .ics, else CSV or Parquet with kind, start and maybe end, name, user_id, cohort.

    kind: leave, holiday, payday or announced. Days and times without a zone are those of `timezone`.
    `end` is exclusive; a day without one lasts a day. Of an .ics file, an event's category gives
    its kind (default: announced); repeating events are written out, until 2100 at most.
    Raises: SourceError if it cannot be opened; DataError naming row or event and remedy if it
        cannot be understood, lasts or repeats without end, or overlaps another of its kind and name.
    """
    if path.suffix.lower() == ".ics":
        entries = _read_ics(path, timezone)
    else:
        records = read_records(path, required=REQUIRED)
        entries = [_entry(cells, timezone) for cells in records]
    _refuse_endless(entries, path.name)
    _refuse_overlaps(entries, path.name)
    return entries


def read_entry(given: Mapping[str, str], source: str, timezone: str = "UTC") -> CalendarEntry:
    """One event from its cells, as they would stand in a file. source: its name in messages.

    Raises: DataError, as `read_calendar`.
    """
    return entry_of(
        {name: Cell(text, source, None, name) for name, text in given.items()}, timezone
    )


def entry_of(cells: Mapping[str, Cell], timezone: str = "UTC") -> CalendarEntry:
    """One event from the cells of its row.

    Raises: DataError, as `read_calendar`.
    """
    entry = _entry(cells, timezone)
    _refuse_endless([entry], cells["kind"].place)
    return entry


def _refuse_endless(entries: list[CalendarEntry], name: str) -> None:
    for entry in entries:
        if entry.end - entry.start > LONGEST:
            raise DataError(
                f"{name}: {_told(entry)} lasts longer than a year: what always holds is no exception. "
                "Give it an earlier end."
            )


def _refuse_overlaps(entries: list[CalendarEntry], name: str) -> None:
    """Two of one kind, scope and name that share time, unless they are equal: one of them is a slip. Who
    falls ill on leave is away under two names.
    """
    latest: dict[tuple[str | None, ...], CalendarEntry] = {}
    for entry in sorted(entries, key=lambda it: (it.start, it.end)):
        scope = (entry.kind, entry.user_id, entry.cohort, entry.name)
        before = latest.get(scope)
        if before is not None and entry.start < before.end and entry != before:
            raise DataError(
                f"{name}: {_told(before)} and {_told(entry)} overlap. Join them, or cut one."
            )
        latest[scope] = entry


def _told(entry: CalendarEntry) -> str:
    whom = entry.user_id or entry.cohort or "everyone"
    named = f" {entry.name[:40]!r}" if entry.name else ""
    return f"{entry.kind}{named} of {whom} from {entry.start:%Y-%m-%d %H:%M} to {entry.end:%Y-%m-%d %H:%M} UTC"


def _entry(cells: Mapping[str, Cell], timezone: str) -> CalendarEntry:
    kind = cells["kind"]
    if kind.text not in EVENT_KINDS:
        raise kind.refused(f"is no kind. Use one of {', '.join(EVENT_KINDS)}.")
    start, whole_day = _instant(cells["start"], timezone)
    if "end" in cells and cells["end"].text:
        end, _ = _instant(cells["end"], timezone)
        if end <= start:
            raise cells["end"].refused("is not after start. The end is exclusive.")
    elif whole_day:
        day = dt.date.fromisoformat(cells["start"].text)
        end = _utc(day + ONE_DAY, timezone)
    else:
        raise cells["start"].refused("has a time of day, but the event has no end. Give one.")
    texts = {name: cells[name].text for name in OPTIONAL[1:] if name in cells}
    if texts.get("user_id") and texts.get("cohort"):
        raise cells["cohort"].refused("stands beside a user_id. Leave one of them out.")
    return CalendarEntry(
        kind.text,
        start,
        end,
        texts.get("name", ""),
        texts.get("user_id") or None,
        texts.get("cohort") or None,
    )


def _instant(cell: Cell, timezone: str) -> tuple[dt.datetime, bool]:
    """A cell's instant, UTC, and whether it names a whole day."""
    try:
        if len(cell.text) == len("2026-10-31"):
            return _utc(dt.date.fromisoformat(cell.text), timezone), True
        return _utc(dt.datetime.fromisoformat(cell.text), timezone), False
    except ValueError as error:
        raise cell.refused("is no day or time. Write 2026-10-31 or 2026-10-31T08:00Z.") from error


def _utc(when: dt.date, timezone: str) -> dt.datetime:
    if not isinstance(when, dt.datetime):
        when = dt.datetime(when.year, when.month, when.day)  # noqa: DTZ001 - placed in a zone below
    local = when if when.tzinfo is not None else when.replace(tzinfo=zone(timezone))
    return local.astimezone(dt.UTC)


def _read_ics(path: Path, timezone: str) -> list[CalendarEntry]:
    text = decoded(read_bytes(path), path.name)
    try:
        events = Calendar.from_ical(text).walk("VEVENT")
    except ValueError as error:
        raise DataError(
            f"{path.name}: no readable calendar ({error}). Export it again as iCalendar."
        ) from error
    entries: list[CalendarEntry] = []
    for number, event in enumerate(events, start=1):
        try:
            entries.extend(_occurrences(event, timezone))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(
                f"{path.name} event {number} ({event.get('SUMMARY', 'no name')}): cannot be "
                f"understood ({error}). Mend or remove it."
            ) from error
    return entries


def _occurrences(event: Any, timezone: str) -> Iterator[CalendarEntry]:
    start: dt.date = event.decoded("DTSTART")
    end: dt.date = _end(event, start)
    kind = next((each for each in _categories(event) if each in EVENT_KINDS), "announced")
    skipped = _exceptions(event)
    for first in _starts(event, start):
        if first not in skipped:
            last = first + (end - start)
            name = str(event.get("SUMMARY", ""))
            yield CalendarEntry(kind, _utc(first, timezone), _utc(last, timezone), name)


def _end(event: Any, start: dt.date) -> dt.date:
    if "DTEND" in event:
        end: dt.date = event.decoded("DTEND")
    elif "DURATION" in event:
        end = start + event.decoded("DURATION")
    else:
        end = start + ONE_DAY
    if end <= start:
        raise ValueError("it ends before it starts")
    return end


def _starts(event: Any, start: dt.date) -> Iterator[dt.date]:
    """The days or times at which an event happens, without their zone's changes in between."""
    if "RRULE" not in event:
        yield start
        return
    whole_day = not isinstance(start, dt.datetime)
    wall = dt.datetime(start.year, start.month, start.day) if whole_day else start  # noqa: DTZ001 - a wall clock
    rule = rrulestr(event["RRULE"].to_ical().decode(), dtstart=wall)
    for number, when in enumerate(rule):
        if when.year >= LAST_YEAR:
            return
        if number == MOST_REPEATS:
            raise ValueError(f"it repeats more than {MOST_REPEATS:,} times; give it UNTIL or COUNT")
        yield when.date() if whole_day else when


def _exceptions(event: Any) -> set[dt.date]:
    given = event.get("EXDATE", [])
    lists = given if isinstance(given, list) else [given]
    return {each.dt for dates in lists for each in dates.dts}


def _categories(event: Any) -> list[str]:
    given = event.get("CATEGORIES", [])
    lists = given if isinstance(given, list) else [given]
    return [
        str(name).strip().lower() for names in lists for name in getattr(names, "cats", [names])
    ]
