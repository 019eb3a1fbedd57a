"""Deletes what is older than it is to be kept, in transactions of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.states import READ_USERS
from anomaly.store.tables import flags, late, observations, rejects, runs, user_months

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

    def superseded(self, month: str) -> int:
        """How many flags and users' months of superseded runs belong to earlier months."""
        counts = [
            sa.select(sa.func.count())
            .select_from(table)
            .where(table.c.run_id.in_(_replaced(month)))
            for table in (flags, user_months)
        ]
        return sum(self._database.read(lambda c: [c.execute(one).scalar_one() for one in counts]))

    def delete_superseded(self, month: str) -> int:
        """Delete them; the runs and what they made different stay in the ledger."""
        return sum(
            self._delete(sa.delete(table).where(table.c.run_id.in_(_replaced(month))))
            for table in (flags, user_months)
        )

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

    def _delete(self, statement: sa.Delete) -> int:
        return self._database.write(lambda c: c.execute(statement).rowcount)


def _replaced(month: str) -> sa.Select[tuple[int]]:
    return sa.select(runs.c.id).where(runs.c.state == "superseded", runs.c.month < month)
