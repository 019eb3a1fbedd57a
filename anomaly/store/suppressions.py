"""Suppressions, and the mark that each leaves on the flags it quiets.

Whether a flag is quieted is decided by `anomaly.feedback` alone. The answer is kept with the flag, so
that reading a hundred thousand flags asks nothing further; it is worked out again when the flag is
published and when a suppression comes or goes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import UsageError
from anomaly.feedback import Suppression, quieted_by
from anomaly.store.database import row_values
from anomaly.store.entities import SuppressionRow
from anomaly.store.tables import flags, suppressions, user_months

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from anomaly.records import Flag
    from anomaly.store.database import Database

EVERYONE = "everyone"


class Suppressions:
    """What asks for more evidence; revoked ones are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, suppression: Suppression, now: dt.datetime) -> tuple[int, int]:
        """Enter one. Returns: its number, and how many flags it quiets that were not before."""
        return self._database.write(lambda c: enter(c, suppression, now))

    def replace(
        self, author: str, new: Sequence[Suppression], now: dt.datetime
    ) -> tuple[list[int], int]:
        """Revoke an author's suppressions without a flag, and enter others, in one transaction.

        Those that stay the same but for their time are left alone, as are those that have ended.
        Returns: the numbers of those that came, and how many went.
        """

        def work(connection: Connection) -> tuple[list[int], int]:
            standing = [
                (number, one)
                for number, one in active(connection)
                if one.author == author
                and one.flag_id is None
                and (one.end is None or one.end > now)
            ]
            kept = {_asked(one) for _, one in standing} & {_asked(one) for one in new}
            gone = [number for number, one in standing if _asked(one) not in kept]
            for number in gone:
                _revoke(connection, number, author, now)
            come = [enter(connection, one, now)[0] for one in new if _asked(one) not in kept]
            return come, len(gone)

        return self._database.write(work)

    def revoke(self, number: int, author: str, now: dt.datetime) -> int:
        """Revoke one. Returns: how many flags are no longer quieted.

        Raises: UsageError if there is none of this number, or it was revoked before.
        """
        query = sa.select(suppressions.c.revoked_at).where(suppressions.c.id == number)

        def work(connection: Connection) -> int:
            row = connection.execute(query).one_or_none()
            if row is None:
                raise UsageError(
                    f"suppression {number} is not there. See: anomaly suppressions list"
                )
            if row[0] is not None:
                raise UsageError(f"suppression {number} was revoked on {row[0]:%Y-%m-%d} already.")
            return _revoke(connection, number, author, now)

        return self._database.write(work)

    def list(self, *, revoked: bool = False) -> list[SuppressionRow]:
        """All that stand, the newest first; with revoked ones if asked for."""
        quiets = (
            sa.select(flags.c.suppression_id, sa.func.count().label("quiets"))
            .where(flags.c.superseded_by.is_(None), flags.c.suppression_id.is_not(None))
            .group_by(flags.c.suppression_id)
            .subquery()
        )
        query = (
            sa.select(suppressions, sa.func.coalesce(quiets.c.quiets, 0).label("quiets"))
            .outerjoin(quiets, quiets.c.suppression_id == suppressions.c.id)
            .order_by(suppressions.c.id.desc())
        )
        if not revoked:
            query = query.where(suppressions.c.revoked_at.is_(None))
        rows = self._database.read(lambda c: c.execute(query).all())
        return [_row(row) for row in rows]


def enter(connection: Connection, suppression: Suppression, now: dt.datetime) -> tuple[int, int]:
    """Enter a suppression within the caller's transaction, and mark the flags that it quiets."""
    values = {name: getattr(suppression, name) for name in NAMES} | {"created_at": now}
    entered = sa.insert(suppressions).values(values).returning(suppressions.c.id)
    number = int(connection.execute(entered).scalar_one())
    return number, mark(connection, suppression)


def withdraw(connection: Connection, flag_id: str, author: str, now: dt.datetime) -> int:
    """Revoke what a verdict on a flag had brought. Returns: how many flags are quieted no longer."""
    query = sa.select(suppressions.c.id).where(
        suppressions.c.flag_id == flag_id, suppressions.c.revoked_at.is_(None)
    )
    found = connection.execute(query).scalars().all()
    return sum(_revoke(connection, number, author, now) for number in found)


def active(connection: Connection) -> list[tuple[int, Suppression]]:
    """Those that stand, by number, the oldest first."""
    query = sa.select(suppressions).where(suppressions.c.revoked_at.is_(None))
    rows = connection.execute(query.order_by(suppressions.c.id)).all()
    return [(row.id, _suppression(row)) for row in rows]


def marks(
    connection: Connection, found: Sequence[Flag], cohorts: dict[str, str]
) -> dict[str, int | None]:
    """What quiets each of these flags, by flag_id. cohorts: by user."""
    standing = active(connection)
    return {
        flag.flag_id: quieted_by(flag, cohorts.get(flag.user_id, EVERYONE), standing)
        for flag in found
    }


def mark(connection: Connection, changed: Suppression) -> int:
    """Work out anew what quiets the flags that a suppression which came or went may cover.

    Returns: how many more flags are quieted than before.
    """
    standing = active(connection)
    changes = []
    for one in _coverable(connection, changed):
        number = quieted_by(one, one.cohort, standing)
        if number != one.suppression_id:
            changes.append((one, number))
    if changes:
        update = (
            sa.update(flags)
            .where(flags.c.run_id == sa.bindparam("run"), flags.c.flag_id == sa.bindparam("flag"))
            .values(suppression_id=sa.bindparam("number"))
        )
        rows = [{"run": one.run_id, "flag": one.flag_id, "number": to} for one, to in changes]
        connection.execute(update, rows)
    return sum((to is not None) - (one.suppression_id is not None) for one, to in changes)


def cohort_of(connection: Connection, run_id: int, user: str) -> str:
    """The user's cohort in a run."""
    query = sa.select(user_months.c.cohort).where(
        user_months.c.run_id == run_id, user_months.c.user_id == user
    )
    return connection.execute(query).scalar() or EVERYONE


@dataclass(frozen=True, slots=True)
class _Seen:
    """Of a flag, what decides whether it is quieted."""

    run_id: int
    flag_id: str
    suppression_id: int | None
    user_id: str
    start: dt.datetime
    metrics: str
    kind: str
    direction: str
    score: float
    observed: float
    expected: float
    cohort: str


def _coverable(connection: Connection, one: Suppression) -> list[_Seen]:
    """The flags that are not superseded and that this suppression may cover."""
    names = [field.name for field in fields(_Seen) if field.name != "cohort"]
    query = (
        sa.select(*(flags.c[name] for name in names), user_months.c.cohort)
        .outerjoin(
            user_months,
            (user_months.c.run_id == flags.c.run_id) & (user_months.c.user_id == flags.c.user_id),
        )
        .where(flags.c.superseded_by.is_(None), flags.c.start >= one.start)
    )
    for name in ("user_id", "kind", "direction"):
        value = getattr(one, name)
        if value is not None:
            query = query.where(flags.c[name] == value)
    rows = connection.execute(query).all()
    return [_Seen(**{**row_values(row), "cohort": row.cohort or EVERYONE}) for row in rows]


def _revoke(connection: Connection, number: int, author: str, now: dt.datetime) -> int:
    row = connection.execute(sa.select(suppressions).where(suppressions.c.id == number)).one()
    connection.execute(
        sa.update(suppressions)
        .where(suppressions.c.id == number)
        .values(revoked_at=now, revoked_by=author)
    )
    return -mark(connection, _suppression(row))


NAMES = tuple(field.name for field in fields(Suppression))


def _asked(one: Suppression) -> tuple[Any, ...]:
    """What it asks of whom, whenever."""
    return tuple(getattr(one, name) for name in NAMES if name not in {"start", "end", "reason"})


def _suppression(row: sa.Row[Any]) -> Suppression:
    values = row_values(row)
    return Suppression(**{name: values[name] for name in NAMES})


def _row(row: sa.Row[Any]) -> SuppressionRow:
    values = row_values(row)
    return SuppressionRow(
        id=values["id"],
        suppression=_suppression(row),
        created_at=values["created_at"],
        revoked_at=values["revoked_at"],
        revoked_by=values["revoked_by"],
        quiets=int(values["quiets"]),
    )
