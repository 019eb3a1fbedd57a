"""Who may work: one row a name, taken and renewed by conditional updates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.exceptions import BusyError
from anomaly.store.entities import Lease, Token
from anomaly.store.tables import leases

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

LEADER = "scheduler"  # the lease of the scheduler that fires
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Leases:
    """Leases by name. A holder that is silent for longer than its time to live has lost its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, ttl: dt.timedelta, now: dt.datetime) -> Token | None:
        """Take a lease that is free or has run out.

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
        number = self._database.write(lambda c: c.execute(taken).scalar_one_or_none())
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
