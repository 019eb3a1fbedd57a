"""The database's secret: sealed under the key of [privacy] key_file, or as it is where none is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.database import row_values
from anomaly.store.tables import secrets

if TYPE_CHECKING:
    import datetime as dt

    from anomaly.store.database import Database

SECRET = 1  # the one row


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret as it is kept. key_id: names the key that it is under; None if it is under none."""

    content: bytes
    key_id: str | None


class Secrets:
    """The one secret of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> Sealed | None:
        """The secret; None before the first use."""
        query = sa.select(secrets.c.content, secrets.c.key_id)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else Sealed(**row_values(row))

    def create(self, sealed: Sealed, now: dt.datetime) -> Sealed:
        """Keep a secret unless there is one already. Returns: the one that is kept."""
        row = self._database.insert(secrets).values(
            id=SECRET, content=sealed.content, key_id=sealed.key_id, sealed_at=now
        )
        self._database.write(lambda c: c.execute(row.on_conflict_do_nothing()))
        kept = self.read()
        assert kept is not None
        return kept

    def replace(self, before: Sealed, after: Sealed, now: dt.datetime) -> bool:
        """Seal the secret anew; False if another process has done so in the meantime."""
        same = secrets.c.content == before.content
        change = sa.update(secrets).where(same)
        change = change.values(content=after.content, key_id=after.key_id, sealed_at=now)
        return self._database.write(lambda c: c.execute(change).rowcount) == 1
