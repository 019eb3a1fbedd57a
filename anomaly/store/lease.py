"""Who may work: one row a name, taken and renewed by conditional updates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.exceptions import BusyError
from anomaly.store import engine as engines
from anomaly.store.entities import Lease, Token
from anomaly.store.tables import leases

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

LEADER = "scheduler"  # the lease of the scheduler that fires
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# A client that is frozen while it copies rows is waited for without end: no time limit of PostgreSQL's
# holds there. Who takes an ended lease ends the transactions that keep it so.
_END_FROZEN = sa.text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE EXISTS (SELECT FROM leases WHERE name = :name AND expires_at <= :now)
      AND datname = current_database() AND pid <> pg_backend_pid()
      AND state <> 'idle' AND wait_event_type = 'Client'
      AND state_change < clock_timestamp() - make_interval(secs => :seconds)
      AND pid IN (SELECT pid FROM pg_locks
                  WHERE relation = CAST('leases' AS regclass)
                    AND mode IN ('RowShareLock', 'RowExclusiveLock'))
""")


class Leases:
    """Leases by name. A holder that is silent for longer than its time to live has lost its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, ttl: dt.timedelta, now: dt.datetime) -> Token | None:
        """Take a lease that is free or has run out.

        Ends transactions of PostgreSQL's that hold an ended lease while their client is silent.
        Returns: a token greater than all before it, or None while another holds the lease.
        """
        insert = self._database.insert(leases).values(
            name=name, holder=holder, token=1, expires_at=now + ttl
        )
        taken = insert.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={
                "holder": holder,
                "token": leases.c.token + 1,
                "expires_at": insert.excluded.expires_at,
            },
            where=leases.c.expires_at <= now,
        ).returning(leases.c.token)

        def work(connection: Connection) -> int | None:
            if self._database.postgres:
                frozen = {"name": name, "now": now, "seconds": engines.FROZEN_SECONDS}
                connection.execute(_END_FROZEN, frozen)
            return connection.execute(taken).scalar_one_or_none()

        number = self._database.write(work)
        return None if number is None else Token(name, number)

    def renew(
        self, name: str, holder: str, token: Token, ttl: dt.timedelta, now: dt.datetime
    ) -> bool:
        """Hold a lease for longer; False if another has taken it."""
        renewed = _held(name, holder, token).values(expires_at=now + ttl)
        return self._database.write(lambda c: c.execute(renewed).rowcount) == 1

    def release(self, name: str, holder: str, token: Token) -> None:
        """Give a lease back; one that another has taken is left alone."""
        freed = _held(name, holder, token).values(expires_at=LONG_AGO)
        self._database.write(lambda c: c.execute(freed))

    def holder(self, name: str) -> Lease | None:
        """Who took the lease last and has not given it back."""
        query = sa.select(leases).where(leases.c.name == name, leases.c.expires_at > LONG_AGO)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        if row is None:
            return None
        return Lease(row.name, row.holder, Token(row.name, row.token), row.expires_at)


def check_token(connection: Connection, token: Token | None) -> None:
    """Refuse work whose lease another has taken, and keep it from being taken until the commit.

    Raises: BusyError.
    """
    if token is None:
        return
    query = sa.select(leases.c.token).where(leases.c.name == token.name).with_for_update()
    if connection.execute(query).scalar_one_or_none() != token.number:
        raise BusyError(
            f"lease {token.name!r}: another process has taken over this work, so nothing of it is "
            "written here. Let that process end, then look at its results."
        )


def _held(name: str, holder: str, token: Token) -> sa.Update:
    return sa.update(leases).where(
        leases.c.name == name, leases.c.holder == holder, leases.c.token == token.number
    )
