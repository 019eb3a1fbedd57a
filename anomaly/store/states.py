"""What each model knows of each user at the end of a month, packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.tables import state_months, states

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

READ_USERS = 500  # users asked for in one statement: a list of any length, in bounded statements


class States:
    """Packed states by model, month and user."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, model_version: str, month: str, users: Sequence[str], blobs: Sequence[bytes]
    ) -> None:
        """Keep the states of users at the end of a month; known ones are replaced."""
        packed = dict(zip(users, blobs, strict=True))
        self._database.write(lambda c: keep(self._database, c, model_version, month, packed))

    def read(
        self, model_version: str, month: str, users: Sequence[str] | None = None
    ) -> dict[str, bytes]:
        """The states at the end of a month, of these users or all; unknown ones are left out."""
        query = sa.select(states.c.user_id, states.c.state).where(
            states.c.model_version == model_version, states.c.month == month
        )

        def work(connection: Connection) -> dict[str, bytes]:
            if users is None:
                return {user: bytes(blob) for user, blob in connection.execute(query)}
            found: dict[str, bytes] = {}
            for first in range(0, len(users), READ_USERS):
                part = query.where(states.c.user_id.in_(users[first : first + READ_USERS]))
                found.update((user, bytes(blob)) for user, blob in connection.execute(part))
            return found

        return self._database.read(work)

    def seal(self, model_version: str, month: str, now: dt.datetime) -> None:
        """Say that the states of everyone at the end of a month are kept."""
        self._database.write(lambda c: seal(self._database, c, model_version, month, now))

    def complete(self, model_version: str, month: str) -> bool:
        """Whether the states of everyone at the end of a month are kept."""
        query = sa.select(state_months).where(
            state_months.c.model_version == model_version, state_months.c.month == month
        )
        return self._database.read(lambda c: c.execute(query).one_or_none()) is not None


def keep(
    database: Database,
    connection: Connection,
    model_version: str,
    month: str,
    packed: Mapping[str, bytes],
) -> None:
    """Write states within the caller's transaction."""
    if not packed:
        return
    insert = database.insert(states)
    key = ("model_version", "month", "user_id")
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=list(key), set_={"state": insert.excluded.state}
        ),
        [
            {**dict(zip(key, (model_version, month, user), strict=True)), "state": blob}
            for user, blob in packed.items()
        ],
    )


def seal(
    database: Database, connection: Connection, model_version: str, month: str, now: dt.datetime
) -> None:
    """Mark a month's states as complete within the caller's transaction."""
    sealed = database.insert(state_months).values(
        model_version=model_version, month=month, sealed_at=now
    )
    connection.execute(sealed.on_conflict_do_nothing())
