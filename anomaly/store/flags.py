"""What analysts read: visible flags, users' months, and what was said of flags."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlalchemy as sa

from anomaly.exceptions import UsageError
from anomaly.ports import FLAG_SORTS, UNKNOWN, USER_SORTS, FlagFilter
from anomaly.records import FLAG_COLUMNS, Flag, UserMonth
from anomaly.rows import TIME_TYPE
from anomaly.store import series
from anomaly.store.database import row_values
from anomaly.store.entities import EXPORT_COLUMNS, Cohort, FlagRow, UserMonthRow
from anomaly.store.ordering import direction, in_order
from anomaly.store.tables import FLAG_NUMBERS, flags, flags_current, user_months_current
from anomaly.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from anomaly.ports import FlagRow as PortRow
    from anomaly.records import Band
    from anomaly.store.database import Database

EVERYTHING = FlagFilter()
BEGINNING = re.compile(r"[0-9a-f]{6,}")  # of an id
FIELDS = tuple(field.name for field in fields(Flag))


class Flags:
    """The flags of the runs that stand; superseded ones are kept but not shown."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def select(self, filters: FlagFilter = EVERYTHING) -> list[FlagRow]:
        """Flags in the filter's order; equal ones by flag_id."""
        query = self._query(filters)
        return [_flag_row(row) for row in self._database.read(lambda c: c.execute(query).all())]

    def arrow(self, filters: FlagFilter = EVERYTHING) -> pa.Table:
        """The same as a table of EXPORT_COLUMNS; equal results are equal from every database."""
        found = self.select(filters)
        columns: dict[str, pa.Array] = {}
        for name in EXPORT_COLUMNS:
            holders = [row.flag if name in FLAG_COLUMNS else row for row in found]
            columns[name] = pa.array([getattr(it, name) for it in holders], _arrow_type(name))
        return pa.table(columns)

    def get(self, flag_id: str) -> FlagRow:
        """One visible flag.

        Raises: UsageError if there is none of this id, and what became of it.
        """
        return _flag_row(self._database.read(lambda c: visible(c, flag_id)))

    def named(self, beginning: str) -> str:
        """The id of the one visible flag that begins so, by six digits or more; where none does, it as it is.

        Raises: UsageError if several do, naming them.
        """
        if BEGINNING.fullmatch(beginning) is None:
            return beginning
        flag_id = flags_current.c.flag_id
        query = sa.select(flag_id).where(flag_id.startswith(beginning)).order_by(flag_id)
        found = self._database.read(lambda c: c.execute(query).scalars().all())
        if len(found) > 1:
            raise UsageError(
                f"flag {beginning!r}: {len(found)} begin so: {listed(found)}. Give more of it."
            )
        return found[0] if found else beginning

    def of_run(self, run_id: int) -> list[Flag]:
        """The flags that a run published, superseded since or not, by score."""
        query = sa.select(*(flags.c[name] for name in FIELDS)).where(flags.c.run_id == run_id)
        query = query.order_by(flags.c.score.desc(), flags.c.flag_id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [_flag(row_values(row)) for row in rows]

    def series(self, flag_id: str) -> Band | None:
        """What a visible flag's plot shows; None if nothing was kept."""
        query = (
            sa.select(flags.c.series)
            .join(
                flags_current,
                (flags_current.c.flag_id == flags.c.flag_id)
                & (flags_current.c.run_id == flags.c.run_id),
            )
            .where(flags.c.flag_id == flag_id)
        )
        return series.unpacked(self._database.read(lambda c: c.execute(query).scalars().first()))

    def neighbours(self, row: PortRow) -> tuple[str | None, str | None]:
        """The flag_ids just before and after a flag in its month's order, None at the ends."""
        view, score, own = flags_current, row.flag.score, row.flag.flag_id
        month = sa.select(view.c.flag_id).where(view.c.month == row.month).limit(1)
        level = view.c.score == score
        above = month.where((view.c.score > score) | (level & (view.c.flag_id < own)))
        below = month.where((view.c.score < score) | (level & (view.c.flag_id > own)))
        above = above.order_by(view.c.score, view.c.flag_id.desc())
        below = below.order_by(view.c.score.desc(), view.c.flag_id)
        return self._database.read(lambda c: (c.scalar(above), c.scalar(below)))

    def severities(self, filters: FlagFilter = EVERYTHING) -> dict[str, int]:
        """How many of the flags that pass have each severity, whatever the limit."""
        severity = flags_current.c.severity
        query = self._passing(sa.select(severity, sa.func.count()), filters).group_by(severity)
        return {
            row[0]: int(row[1]) for row in self._database.read(lambda c: c.execute(query).all())
        }

    def cohorts(self, month: str) -> dict[str, Cohort]:
        """The peer groups of a month's scored users, by name."""
        view = user_months_current
        query = (
            sa.select(view.c.cohort, view.c.cohort_why, sa.func.count())
            .where(view.c.month == month, view.c.skipped.is_(None))
            .group_by(view.c.cohort, view.c.cohort_why)
            .order_by(view.c.cohort, sa.func.count().desc(), view.c.cohort_why)
        )
        found: dict[str, Cohort] = {}
        for name, why, users in self._database.read(lambda c: c.execute(query).all()):
            before = found.get(name, Cohort(0, why))
            found[name] = Cohort(before.users + int(users), before.why)
        return found

    def ever_in(self, cohort: str) -> frozenset[str]:
        """Everyone who was in a peer group in some month."""
        view = user_months_current
        query = sa.select(view.c.user_id).where(view.c.cohort == cohort).distinct()
        return frozenset(self._database.read(lambda c: c.execute(query).scalars().all()))

    def user_months(
        self,
        month: str,
        user: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        cohort: str | None = None,
        sort: str = "rank",
        after: tuple[Any, ...] | None = None,
    ) -> list[UserMonthRow]:
        """Users by one of USER_SORTS, equal ones by user_id, then those not scored."""
        view = user_months_current
        column, falling = direction(sort, USER_SORTS)
        by: sa.ColumnElement[Any] = view.c[column]
        if USER_SORTS[column] == "number":
            by = sa.func.coalesce(by, UNKNOWN)
        keys = (
            (sa.case((view.c.rank.is_(None), 1), else_=0), False),
            (by, falling),
            (view.c.user_id, False),
        )
        query = _of_month(sa.select(view), month, user, cohort)
        query = in_order(query, keys, after).limit(limit).offset(offset)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [_user_month_row(row) for row in rows]

    def count_user_months(
        self, month: str, user: str | None = None, cohort: str | None = None
    ) -> int:
        """How many users a month has, scored or not."""
        counted = sa.select(sa.func.count()).select_from(user_months_current)
        query = _of_month(counted, month, user, cohort)
        return int(self._database.read(lambda c: c.scalar(query)) or 0)

    def _query(self, filters: FlagFilter) -> sa.Select[Any]:
        view = flags_current
        query = self._passing(sa.select(view), filters)
        column, falling = direction(filters.sort, FLAG_SORTS)
        keys = ((view.c[column], falling), (view.c.flag_id, False))
        ordered = in_order(query, keys, filters.after)
        return ordered.limit(filters.limit).offset(filters.offset)

    def _passing(self, query: sa.Select[Any], filters: FlagFilter) -> sa.Select[Any]:
        """The query with the conditions of a filter, without its limit."""
        view = flags_current
        wanted = {
            "month": filters.month,
            "user_id": filters.user,
            "severity": filters.severity,
            "status": filters.status,
            "kind": filters.kind,
            "label": filters.label,
            "assignee": filters.assignee,
        }
        for name, value in wanted.items():
            if value is not None:
                query = query.where(view.c[name] == value)
        if filters.suppressed is not None:
            quieted = view.c.suppressed_by.is_not(None)
            query = query.where(quieted if filters.suppressed else ~quieted)
        if filters.metric is not None:
            # LIKE would take % and _ in a metric's name for wildcards, and ignore case on SQLite.
            find = sa.func.strpos if self._database.postgres else sa.func.instr
            query = query.where(find(";" + view.c.metrics + ";", f";{filters.metric};") > 0)
        return query


def _of_month(
    query: sa.Select[Any], month: str, user: str | None, cohort: str | None
) -> sa.Select[Any]:
    view = user_months_current
    query = query.where(view.c.month == month)
    if user is not None:
        query = query.where(view.c.user_id == user)
    return query if cohort is None else query.where(view.c.cohort == cohort)


def _arrow_type(name: str) -> pa.DataType:
    if name in ("start", "end"):
        return TIME_TYPE
    if name in FLAG_NUMBERS:
        return pa.float64()
    return pa.int64() if name in ("peer_count", "suppressed_by") else pa.string()


def visible(connection: Connection, flag_id: str) -> sa.Row[Any]:
    """The row of a flag that can be seen.

    Raises: UsageError if there is none of this id, and what became of it.
    """
    query = sa.select(flags_current).where(flags_current.c.flag_id == flag_id)
    row = connection.execute(query).first()
    if row is not None:
        return row
    former = (
        sa.select(flags.c.month, flags.c.user_id, flags.c.superseded_by)
        .where(flags.c.flag_id == flag_id, flags.c.superseded_by.is_not(None))
        .order_by(flags.c.run_id.desc())
    )
    known = connection.execute(former).first()
    if known is None:
        raise UsageError(f"flag {flag_id[:40]!r} is not there. See: anomaly flags list")
    raise UsageError(
        f"flag {flag_id} is superseded: run {known.superseded_by} scored {known.month} again and did "
        f"not find it. See: anomaly flags list --month {known.month} --user {known.user_id}"
    )


def _flag_row(row: sa.Row[Any]) -> FlagRow:
    values = row_values(row)
    flag = {name: values.pop(name) for name in FIELDS}
    return FlagRow(_flag(flag), **values)


def _flag(values: Mapping[str, Any]) -> Flag:
    return Flag(**{**values, "continues": bool(values["continues"])})


def _user_month_row(row: sa.Row[Any]) -> UserMonthRow:
    values = row_values(row)
    person = UserMonth(**{field.name: values[field.name] for field in fields(UserMonth)})
    return UserMonthRow(
        values["month"], values["rank"], person, values["run_id"], values["run_state"]
    )
