"""Writes one shard of a month's results in one transaction.

Rows are keyed by run and shard: doing it again leaves the same rows. They are seen by nobody until
the ledger finishes the run.
"""

from __future__ import annotations

import math
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from anomaly.exceptions import DataError
from anomaly.records import Flag, UserMonth
from anomaly.store import series
from anomaly.store.lease import check_token
from anomaly.store.states import READ_USERS, keep
from anomaly.store.suppressions import marks
from anomaly.store.tables import (
    FLAG_NUMBERS,
    USER_MONTH_GUESSES,
    USER_MONTH_NUMBERS,
    flags,
    shards,
    user_months,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from anomaly.records import Band
    from anomaly.store.database import Database
    from anomaly.store.entities import Run, Token


Narrowed = TypeVar("Narrowed", sa.Delete, sa.Update, sa.Select[Any])


class Shards:
    """Which parts of a run are published."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def finished(self, run_id: int) -> set[int]:
        """The shards of a run that need not be scored again."""
        query = sa.select(shards.c.shard).where(shards.c.run_id == run_id, shards.c.error.is_(None))
        return set(self._database.read(lambda c: c.execute(query).scalars().all()))

    def set_aside(self, run_id: int) -> dict[int, str]:
        """The shards of a run some of whose users could not be scored, and why."""
        query = (
            sa.select(shards.c.shard, shards.c.error)
            .where(shards.c.run_id == run_id, shards.c.error.is_not(None))
            .order_by(shards.c.shard)
        )
        return self._database.read(lambda c: {row.shard: row.error for row in c.execute(query)})

    def of(self, run_id: int) -> list[int]:
        """The numbers of the shards that a run has published, whole or not."""
        query = sa.select(shards.c.shard).where(shards.c.run_id == run_id).order_by(shards.c.shard)
        return list(self._database.read(lambda c: c.execute(query).scalars().all()))

    def adopt(
        self,
        run: Run,
        earlier: int,
        numbers: Iterable[int],
        token: Token | None,
        now: dt.datetime,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """Take shards of an earlier run over as this run's own, one transaction each.

        They must come from the same rows, settings and model. without: users who are left out.
        Raises: BusyError if another has taken the lease.
        """
        for number in numbers:
            self._database.write(partial(_copy, run=run, earlier=earlier, number=number,
                                         token=token, now=now, without=without))  # fmt: skip


def _copy(
    connection: Connection, *, run: Run, earlier: int, number: int, token: Token | None,
    now: dt.datetime, without: frozenset[str],
) -> None:  # fmt: skip
    check_token(connection, token)
    new = {
        "run_id": sa.literal(run.id),
        "published_at": sa.literal(now, shards.c.published_at.type),
    }
    for table in (flags, user_months, shards):
        columns = [column for column in table.c if column.name != "superseded_by"]
        connection.execute(_shard_of(sa.delete(table), table, run.id, number))
        old = sa.select(*(new.get(column.name, column) for column in columns))
        chosen = _shard_of(old, table, earlier, number)
        connection.execute(sa.insert(table).from_select([it.name for it in columns], chosen))
    if not without:
        return
    leaving = sorted(without)
    left = {}
    for table in (flags, user_months):
        for first in range(0, len(leaving), READ_USERS):
            part = table.c.user_id.in_(leaving[first : first + READ_USERS])
            connection.execute(_shard_of(sa.delete(table).where(part), table, run.id, number))
        count = _shard_of(sa.select(sa.func.count()), table, run.id, number)
        left[table.name] = connection.execute(count).scalar_one()
    counted = sa.update(shards).values(users=left["user_months"], flags=left["flags"])
    connection.execute(_shard_of(counted, shards, run.id, number))


def publish(
    database: Database,
    run: Run,
    shard: int,
    month: str,
    found: Sequence[Flag],
    people: Sequence[UserMonth],
    states: Mapping[str, bytes],
    token: Token | None,
    *,
    model_version: str | None,
    bands: Mapping[str, Band],
    error: str | None,
    now: dt.datetime,
) -> None:
    """See `Store.publish`."""
    if states and model_version is None:
        raise DataError("publish: states need the version of the model they belong to.")
    place = {"run_id": run.id, "shard": shard, "month": month}
    flag_rows = [
        {**place, **_flag_values(flag), "series": series.packed(bands.get(flag.flag_id))}
        for flag in found
    ]
    people_rows = [{**place, **_user_month_values(person)} for person in people]
    shard_row = {
        "run_id": run.id,
        "shard": shard,
        "users": len(people_rows),
        "flags": len(flag_rows),
        "published_at": now,
        "error": error,
    }

    cohorts = {person.user_id: person.cohort for person in people}

    def work(connection: Connection) -> None:
        check_token(connection, token)
        quieted = marks(connection, found, cohorts)
        marked = [{**row, "suppression_id": quieted[row["flag_id"]]} for row in flag_rows]
        for table in (flags, user_months, shards):
            connection.execute(_shard_of(sa.delete(table), table, run.id, shard))
        for table, rows in ((flags, marked), (user_months, people_rows), (shards, [shard_row])):
            if rows:
                connection.execute(sa.insert(table), rows)
        if model_version is not None:
            keep(database, connection, model_version, month, states)

    database.write(work)


def _shard_of(statement: Narrowed, table: sa.Table, run_id: int, shard: int) -> Narrowed:
    return statement.where(table.c.run_id == run_id, table.c.shard == shard)


def _flag_values(flag: Flag) -> dict[str, Any]:
    values = {field.name: getattr(flag, field.name) for field in fields(Flag)}
    return {
        **values,
        **_numbers(values, FLAG_NUMBERS, f"flag {flag.flag_id}"),
        "peer_count": int(flag.peer_count),
        "continues": bool(flag.continues),
    }


def _user_month_values(person: UserMonth) -> dict[str, Any]:
    values = {field.name: getattr(person, field.name) for field in fields(UserMonth)}
    known = [name for name in USER_MONTH_GUESSES if values[name] is not None]
    return {
        **values,
        **_numbers(values, (*USER_MONTH_NUMBERS, *known), f"user {person.user_id[:40]!r}"),
        "flags": int(person.flags),
        "peer_count": int(person.peer_count),
    }


def _numbers(values: Mapping[str, Any], names: Sequence[str], what: str) -> dict[str, float]:
    """Plain floats of numpy's; adding zero makes -0.0, which SQLite cannot keep, 0.0."""
    plain = {name: float(values[name]) + 0.0 for name in names}
    for name, value in plain.items():
        if not math.isfinite(value):
            raise DataError(f"{what}: {name} is {value}, which no table takes. Nothing is written.")
    return plain
