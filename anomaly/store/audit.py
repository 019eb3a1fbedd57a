"""The audit's rows: added, read, never changed. Triggers refuse UPDATE and DELETE."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.audit import BEGINNING, Entry, Head, head_of, link
from anomaly.store.database import row_values
from anomaly.store.tables import audit, audit_head

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from anomaly.secrecy import Secret
    from anomaly.store.database import Database

HEAD = 1  # the one row of audit_head


class AuditRows:
    """Who did what to what, when and why."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, secret: Secret, entry: Entry) -> Entry:
        """Add a row at the chain's end; its id and digest are given here.

        Returns: the row as it was written.
        """
        return self._database.write(lambda c: add(self._database, c, secret, entry))

    def read(self) -> list[Entry]:
        """All rows, by id."""
        query = sa.select(audit).order_by(audit.c.id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [Entry(**row_values(row)) for row in rows]

    def head(self) -> Head | None:
        """Where the chain ends; None before the first row."""
        query = sa.select(audit_head.c.rows, audit_head.c.digest, audit_head.c.seal)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else Head(**row_values(row))


def add(database: Database, connection: Connection, secret: Secret, entry: Entry) -> Entry:
    """Add a row within the caller's transaction."""
    start = database.insert(audit_head).values(id=HEAD, rows=0, digest=BEGINNING, seal="")
    # An update that changes nothing locks the head: whoever else adds a row waits for the commit.
    locked = start.on_conflict_do_update(index_elements=[audit_head.c.id], set_={"id": HEAD})
    head = connection.execute(locked.returning(audit_head.c.rows, audit_head.c.digest)).one()
    newest = sa.select(audit.c.id, audit.c.digest).order_by(audit.c.id.desc()).limit(1)
    last = connection.execute(newest).one_or_none()
    # Where someone has cut rows or the head off, work goes on; `audit verify` tells.
    rows, digest = max((head.rows, head.digest), (0, "") if last is None else tuple(last))
    written = replace(entry, id=rows + 1, digest=link(secret, digest, entry))
    connection.execute(sa.insert(audit).values(**_values(written)))
    ended = head_of(secret, written.id, written.digest)
    connection.execute(
        sa.update(audit_head).values(rows=ended.rows, digest=ended.digest, seal=ended.seal)
    )
    return written


def _values(entry: Entry) -> dict[str, object]:
    return {column.name: getattr(entry, column.name) for column in audit.columns}
