"""What came after its month was closed, rows or events, and what taking it in made of its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.store.database import row_values
from anomaly.store.entities import ChangeRow
from anomaly.store.lease import check_token
from anomaly.store.states import READ_USERS
from anomaly.store.tables import changes, late, runs, states

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

    from anomaly.difference import Change
    from anomaly.store.database import Database
    from anomaly.store.entities import Run, Token

# Late rows wait for a closed month whose run began before they were noticed: its own rows, and those
# of earlier months, which are part of what the run knew of their users.
WAITING = (
    (late.c.month <= runs.c.month)
    & (late.c.noticed_at > runs.c.started_at)
    & (runs.c.job == "month")
    & (runs.c.state == "complete")
)


class Late:
    """Whose rows or events of the calendar came late, by their month."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, month: str, users: Iterable[str], now: dt.datetime) -> None:
        """Say that rows or events of these users are about to come into a month that was closed.

        What is known of the users at the end of that month and after it is no longer true: it is
        deleted, and rebuilt when it is needed.
        """
        insert = self._database.insert(late)
        noted = insert.on_conflict_do_update(
            index_elements=[late.c.month, late.c.user_id],
            set_={"noticed_at": insert.excluded.noticed_at},
        )
        everyone = list(users)

        def work(connection: Connection) -> None:
            for first in range(0, len(everyone), READ_USERS):
                part = everyone[first : first + READ_USERS]
                rows = [{"month": month, "user_id": user, "noticed_at": now} for user in part]
                connection.execute(noted, rows)
                stale = sa.delete(states).where(states.c.month >= month)
                connection.execute(stale.where(states.c.user_id.in_(part)))

        if everyone:
            self._database.write(work)

    def ever(self, until: str) -> frozenset[str]:
        """Everyone of whom anything ever came late in a month up to this one."""
        query = sa.select(late.c.user_id).where(late.c.month <= until).distinct()
        return frozenset(self._database.read(lambda c: c.execute(query).scalars().all()))

    def waiting_of(self, run: Run) -> frozenset[str]:
        """Users of whom something came late that the run of a closed month has not seen."""
        query = sa.select(late.c.user_id).join(runs, WAITING).where(runs.c.id == run.id).distinct()
        return frozenset(self._database.read(lambda c: c.execute(query).scalars().all()))

    def waiting(self) -> dict[str, int]:
        """Of how many users something came late that each closed month has not taken in."""
        query = (
            sa.select(runs.c.month, sa.func.count(late.c.user_id.distinct()))
            .join(late, WAITING)
            .group_by(runs.c.month)
            .order_by(runs.c.month)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))


class Changes:
    """Flags that came, went or changed when a closed month was scored again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, run: Run, earlier: Run, found: Iterable[Change], token: Token | None) -> None:
        """Keep what a run made different of an earlier one's flags; again: the same rows.

        Raises: BusyError if another has taken the lease.
        """
        rows = [_values(run, earlier, change) for change in found]

        def work(connection: Connection) -> None:
            check_token(connection, token)
            connection.execute(sa.delete(changes).where(changes.c.run_id == run.id))
            if rows:
                connection.execute(sa.insert(changes), rows)

        self._database.write(work)

    def list(self, month: str | None = None, run_id: int | None = None) -> list[ChangeRow]:
        """What was different, the newest run first, the highest score first within it."""
        query = sa.select(changes).order_by(
            changes.c.run_id.desc(), changes.c.score.desc(), changes.c.flag_id
        )
        if month is not None:
            query = query.where(changes.c.month == month)
        if run_id is not None:
            query = query.where(changes.c.run_id == run_id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [ChangeRow(**row_values(row)) for row in rows]


def _values(run: Run, earlier: Run, change: Change) -> dict[str, Any]:
    flag, before = change.flag, change.before
    return {
        "run_id": run.id,
        "flag_id": flag.flag_id,
        "month": run.month,
        "kind": change.kind,
        "user_id": flag.user_id,
        "start": flag.start,
        "end": flag.end,
        "severity": flag.severity,
        "score": float(flag.score),
        "metrics": flag.metrics,
        "earlier_run": earlier.id,
        "earlier_flag_id": None if before is None else before.flag_id,
        "earlier_start": None if before is None else before.start,
        "earlier_end": None if before is None else before.end,
        "earlier_severity": None if before is None else before.severity,
        "earlier_score": None if before is None else float(before.score),
    }
