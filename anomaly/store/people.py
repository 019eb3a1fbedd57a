"""What is known of users and of the calendar beside their behaviour."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import DataError, UsageError
from anomaly.rows import LONGEST_NAME
from anomaly.store.database import row_values
from anomaly.store.entities import EventEntry, EventRow, Moved, UserRow
from anomaly.store.tables import cohorts, events, users

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.store.database import Database


class Users:
    """What is known of users: department, role, time zone, country, when they came and left."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, rows: Sequence[UserRow]) -> int:
        """Add users; a known one is replaced. Returns how many rows were given.

        Raises: DataError if a user's name cannot be stored.
        """
        columns = tuple(column.name for column in users.c)
        values = [{name: getattr(row, name) for name in columns} for row in rows]
        for row in rows:
            _check_name(row.user_id)
        insert = self._database.insert(users)
        statement = insert.on_conflict_do_update(
            index_elements=[users.c.user_id],
            set_={name: insert.excluded[name] for name in columns if name != "user_id"},
        )
        if values:
            self._database.write(lambda c: c.execute(statement, values))
        return len(values)

    def read(self) -> list[UserRow]:
        """Everyone, by user_id in byte order."""
        query = sa.select(users).order_by(users.c.user_id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [UserRow(**row_values(row)) for row in rows]


class Cohorts:
    """Who was put into another peer group by hand; it holds for months scored from then on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def move(self, moved: Moved) -> None:
        """Put a user into a group, in place of an earlier one."""
        values = asdict(moved)
        insert = self._database.insert(cohorts)
        rest = {name: insert.excluded[name] for name in values if name != "user_id"}
        statement = insert.on_conflict_do_update(index_elements=[cohorts.c.user_id], set_=rest)
        self._database.write(lambda c: c.execute(statement, [values]))

    def release(self, user_id: str) -> bool:
        """Let habits and columns speak again. False if the user had not been moved."""
        statement = sa.delete(cohorts).where(cohorts.c.user_id == user_id)
        return self._database.write(lambda c: bool(c.execute(statement).rowcount))

    def moved(self) -> list[Moved]:
        """All who were moved, by user_id."""
        query = sa.select(cohorts).order_by(cohorts.c.user_id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [Moved(**row_values(row)) for row in rows]


class Events:
    """The calendar: leave, holidays, pay-days, what was announced. What is withdrawn stays, marked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unknown(self, rows: Sequence[EventRow]) -> Sequence[EventRow]:
        """Those of the events that are not in the calendar, each once."""
        known = set(self.read())
        return [row for row in dict.fromkeys(row.in_utc for row in rows) if row not in known]

    def write(self, rows: Sequence[EventRow], now: dt.datetime, author: str = "") -> None:
        """Add events; one that is there already changes nothing, one that was withdrawn is there again."""
        values = [
            {**asdict(row), "event_id": _event_id(row), "added_at": now, "author": author}
            for row in rows
        ]
        insert = self._database.insert(events)
        told = ("added_at", "author", "withdrawn_at", "withdrawn_by")
        statement = insert.on_conflict_do_update(
            index_elements=[events.c.event_id],
            set_={name: insert.excluded[name] for name in told},
            where=events.c.withdrawn_at.is_not(None),
        )
        if values:
            self._database.write(lambda c: c.execute(statement, values))

    def withdraw(self, event_id: str, now: dt.datetime, author: str) -> None:
        """Take an event out of the calendar."""
        statement = sa.update(events).where(events.c.event_id == event_id)
        values = {"withdrawn_at": now, "withdrawn_by": author}
        self._database.write(lambda c: c.execute(statement.values(values)))

    def get(self, event_id: str) -> EventEntry:
        """One event of the calendar, by its id or the beginning of it.

        Raises: UsageError if none or several of those that stand begin so.
        """
        found = [entry for entry in self.list() if entry.event_id.startswith(event_id)]
        if len(found) != 1 or not event_id:
            raise UsageError(
                f"event {event_id[:40]!r}: {len(found) if event_id else 'all'} of the calendar begin so. "
                "See: anomaly events list"
            )
        return found[0]

    def list(
        self,
        *,
        withdrawn: bool = False,
        since: dt.datetime | None = None,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> Sequence[EventEntry]:
        """Events by time, with who entered them.

        Args: withdrawn: those too that were. since: only those that came or went after it. start, end:
            only those that share time with [start, end).
        """
        query = sa.select(events).order_by(events.c.start, events.c.event_id)
        if not withdrawn:
            query = query.where(events.c.withdrawn_at.is_(None))
        if since is not None:
            query = query.where((events.c.added_at > since) | (events.c.withdrawn_at > since))
        if start is not None:
            query = query.where(events.c.end > start)
        if end is not None:
            query = query.where(events.c.start < end)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [_entry(row_values(row)) for row in rows]

    def changed_since(self, when: dt.datetime) -> bool:
        """Whether an event came or went after an instant."""
        return bool(self.list(withdrawn=True, since=when))

    def read(
        self, start: dt.datetime | None = None, end: dt.datetime | None = None
    ) -> Sequence[EventRow]:
        """Events that share time with [start, end), by time."""
        return [entry.event for entry in self.list(start=start, end=end)]


def _entry(row: dict[str, Any]) -> EventEntry:
    own = {field.name: row[field.name] for field in fields(EventRow)}
    rest = {name: value for name, value in row.items() if name not in own}
    return EventEntry(event=EventRow(**own), **rest)


def _check_name(user_id: str) -> None:
    size = len(user_id.encode())
    if not 0 < size <= LONGEST_NAME or "\0" in user_id:
        raise DataError(
            f"users: a user_id of {size} bytes cannot be stored ({user_id[:40]!r}). It must have "
            f"1 to {LONGEST_NAME} bytes and no NUL character."
        )


def _event_id(row: EventRow) -> str:
    """The same event is the same row, however often it is imported."""
    parts = (
        row.kind,
        row.start.astimezone(dt.UTC).isoformat(),
        row.end.astimezone(dt.UTC).isoformat(),
        row.name,
        row.user_id,
        row.cohort,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
