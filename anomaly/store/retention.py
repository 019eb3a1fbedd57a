"""Deletes what is older than it is to be kept, in transactions of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.store.states import READ_USERS
from anomaly.store.tables import (
    flags,
    late,
    observations,
    rejects,
    runs,
    shards,
    state_months,
    states,
    user_months,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from anomaly.store.database import Database


class Retention:
    """What is old, and its deletion."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def observations(self, before: dt.datetime, users: Sequence[str]) -> Iterator[int]:
        """Delete older rows of these users; gives how many went, some users at a time."""
        for first in range(0, len(users), READ_USERS):
            part = observations.c.user_id.in_(users[first : first + READ_USERS])
            yield self._delete(
                sa.delete(observations).where(part, observations.c.observed_at < before)
            )

    def unseen(self, month: str) -> int:
        """How many flags and users' months of superseded and failed runs belong to earlier months."""
        counts = [
            sa.select(sa.func.count()).select_from(table).where(table.c.run_id.in_(_unseen(month)))
            for table in (flags, user_months)
        ]
        return sum(self._database.read(lambda c: [c.execute(one).scalar_one() for one in counts]))

    def delete_unseen(self, month: str) -> Iterator[int]:
        """Delete them, some at a time; the runs and what they made different stay in the ledger.

        Their shards go first: a later run must not take over one whose users are gone.
        """
        self._delete(sa.delete(shards).where(shards.c.run_id.in_(_unseen(month))))
        for key in (flags.c.flag_id, user_months.c.user_id):
            run = key.table.c.run_id
            with_rows = sa.select(run).where(run.in_(_unseen(month))).distinct()
            for number in self._values(with_rows):
                yield from self._delete_each(key, run == number)

    def states(self, month: str) -> int:
        """How many states of users at the end of earlier months are kept, of all models."""
        query = sa.select(sa.func.count()).select_from(states).where(states.c.month < month)
        return self._database.read(lambda c: c.execute(query).scalar_one())

    def delete_states(self, month: str) -> Iterator[int]:
        """Delete them, some users at a time.

        Their seals go first: a month some of whose states are gone must not pass for complete.
        """
        self._delete(sa.delete(state_months).where(state_months.c.month < month))
        of = (states.c.model_version, states.c.month)
        kept = sa.select(*of).where(states.c.month < month).distinct()
        for version, old in self._database.read(lambda c: c.execute(kept).all()):
            alike = (states.c.model_version == version) & (states.c.month == old)
            yield from self._delete_each(states.c.user_id, alike)

    def rejects(self, before: dt.datetime) -> int:
        """How many rows were set aside before."""
        query = sa.select(sa.func.count()).where(rejects.c.rejected_at < before)
        return self._database.read(lambda c: c.execute(query).scalar_one())

    def delete_rejects(self, before: dt.datetime) -> int:
        """Delete them."""
        return self._delete(sa.delete(rejects).where(rejects.c.rejected_at < before))

    def delete_late(self, month: str) -> int:
        """Forget who had late rows in earlier months, whose rows are gone."""
        return self._delete(sa.delete(late).where(late.c.month < month))

    def _delete_each(self, key: sa.Column[str], alike: sa.ColumnElement[bool]) -> Iterator[int]:
        """Delete rows that are alike, some at a time, by what tells them apart."""
        names = self._values(sa.select(key).where(alike))
        for first in range(0, len(names), READ_USERS):
            part = key.in_(names[first : first + READ_USERS])
            yield self._delete(sa.delete(key.table).where(alike, part))

    def _values(self, query: sa.Select[Any]) -> Sequence[Any]:
        return self._database.read(lambda c: c.execute(query).scalars().all())

    def _delete(self, statement: sa.Delete) -> int:
        return self._database.write(lambda c: c.execute(statement).rowcount)


def _unseen(month: str) -> sa.Select[tuple[int]]:
    ended = runs.c.state.in_(("superseded", "failed"))
    return sa.select(runs.c.id).where(ended, runs.c.month < month)
