"""What is known of users and of the calendar beside their behaviour."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.exceptions import DataError
from anomaly.rows import LONGEST_NAME
from anomaly.store.database import row_values
from anomaly.store.entities import EventRow, Moved, UserRow
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
    """The calendar: leave, holidays, what was announced."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, rows: Sequence[EventRow]) -> int:
        """Add events; one that is known already changes nothing. Returns how many rows were given."""
        values = [
            {
                "event_id": _event_id(row),
                "kind": row.kind,
                "start": row.start,
                "end": row.end,
                "name": row.name,
                "user_id": row.user_id,
                "cohort": row.cohort,
            }
            for row in rows
        ]
        statement = self._database.insert(events).on_conflict_do_nothing()
        if values:
            self._database.write(lambda c: c.execute(statement, values))
        return len(values)

    def read(
        self, start: dt.datetime | None = None, end: dt.datetime | None = None
    ) -> list[EventRow]:
        """Events that share time with [start, end), by time."""
        query = sa.select(events).order_by(events.c.start, events.c.event_id)
        if start is not None:
            query = query.where(events.c.end > start)
        if end is not None:
            query = query.where(events.c.start < end)
        rows = self._database.read(lambda c: c.execute(query).all())
        found = [row_values(row) for row in rows]
        return [EventRow(**{k: v for k, v in row.items() if k != "event_id"}) for row in found]


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
