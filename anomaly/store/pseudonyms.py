"""The names behind pseudonyms, sealed. Opening one is not this module's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.tables import pseudonyms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.store.database import Database


class Pseudonyms:
    """Sealed names by user_id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, names: Mapping[str, bytes]) -> None:
        """Keep the sealed names of users; those that are known already stay as they are."""
        insert = self._database.insert(pseudonyms).on_conflict_do_nothing()
        values = [{"user_id": user, "name": sealed} for user, sealed in names.items()]
        if values:
            self._database.write(lambda c: c.execute(insert, values))

    def known(self) -> set[str]:
        """Every user who has one."""
        query = sa.select(pseudonyms.c.user_id)
        return set(self._database.read(lambda c: c.execute(query).scalars().all()))

    def read(self, user_id: str) -> bytes | None:
        """The sealed name of a user; None where there is none."""
        query = sa.select(pseudonyms.c.name).where(pseudonyms.c.user_id == user_id)
        found = self._database.read(lambda c: c.execute(query).scalar_one_or_none())
        return None if found is None else bytes(found)

    def any(self) -> bool:
        """Whether this database holds pseudonyms."""
        query = sa.select(pseudonyms.c.user_id).limit(1)
        return self._database.read(lambda c: c.execute(query).one_or_none()) is not None
