"""Removes a user from every table, and from the file's free pages and log.

Which tables hold a user is read from their columns: one that a later version adds is found without
being named here. The audit keeps its keyed hash.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.store.audit import add
from anomaly.store.tables import METADATA, erasures, flags, rejects, told

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection

    from anomaly.audit import Entry
    from anomaly.secrecy import Secret
    from anomaly.store.database import Database

KEPT = ("audit", "audit_head")
PROSE = ("note", "reason", "text")  # columns in which people and programs write sentences
ERASED = "(erased)"


class Erasing:
    """Users who are to be forgotten."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, user_id: str) -> bool:
        """Whether any table holds rows of a user."""

        def work(connection: Connection) -> bool:
            return any(
                connection.execute(
                    sa.select(sa.literal(1)).where(table.c.user_id == user_id).limit(1)
                ).first()
                for table in _tables_with("user_id")
            )

        return self._database.read(work)

    def erase(
        self,
        user_id: str,
        names: Iterable[str],
        person: str,
        until: dt.datetime,
        secret: Secret,
        entry: Entry,
    ) -> dict[str, int]:
        """Remove a user in one transaction, with the row of the audit that says so.

        Args: names: what the user is called in sentences and bad rows. person: its keyed hash;
            rows observed before `until` do not come in again.
        Returns: how many rows went, by table.
        """

        def work(connection: Connection) -> dict[str, int]:
            if not self._database.postgres:
                # What is deleted is overwritten at once.
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
            gone = _delete(connection, user_id)
            gone.update(_unname(connection, list(names)))
            tombstone = self._database.insert(erasures).values(person=person, until=until)
            connection.execute(
                tombstone.on_conflict_do_update(
                    index_elements=[erasures.c.person], set_={"until": tombstone.excluded.until}
                )
            )
            add(self._database, connection, secret, entry)
            return dict(+gone)

        return self._database.write(work)

    def sweep(self) -> bool:
        """Rewrite what still holds deleted rows: SQLite's file and log, PostgreSQL's dead rows.

        Returns: False if another process reads SQLite's log, which then still holds some.
        """
        with self._database.guarded():
            # Past SQLAlchemy, which would begin a transaction; VACUUM bears none.
            connection = self._database.engine.raw_connection()
            driver: Any = connection.driver_connection
            try:
                if self._database.postgres:
                    driver.autocommit = True
                driver.execute("VACUUM")
                if self._database.postgres:
                    return True
                busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                return not busy
            finally:
                connection.invalidate()

    def erased(self) -> Mapping[str, dt.datetime]:
        """Keyed hashes of erased users, and until when their rows are kept out."""
        query = sa.select(erasures.c.person, erasures.c.until)
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))


def _tables_with(column: str) -> list[sa.Table]:
    return [table for table in METADATA.sorted_tables if column in table.c]


def _delete(connection: Connection, user_id: str) -> Counter[str]:
    gone: Counter[str] = Counter()
    theirs = sa.select(flags.c.flag_id).where(flags.c.user_id == user_id)
    said = [table for table in _tables_with("flag_id") if table is not flags]
    for table in said:
        gone[table.name] += connection.execute(
            sa.delete(table).where(table.c.flag_id.in_(theirs))
        ).rowcount
    gone[told.name] += connection.execute(
        sa.delete(told).where(told.c.subject.in_(theirs))
    ).rowcount
    for table in _tables_with("user_id"):
        gone[table.name] += connection.execute(
            sa.delete(table).where(table.c.user_id == user_id)
        ).rowcount
    return gone


def _unname(connection: Connection, names: list[str]) -> Counter[str]:
    """Delete bad rows that name the user; in sentences of other rows, cross the name out."""
    gone: Counter[str] = Counter()
    for name in names:
        # A name counts where no letter, digit or the like continues it: ann is not in joanna.
        word = re.compile(rf"(?<![\w@.-]){re.escape(name)}(?![\w@-])")
        for table in METADATA.sorted_tables:
            columns = [column for column in table.c if column.name in PROSE]
            if table.name in KEPT or not columns:
                continue
            if table is rejects:
                columns = [rejects.c.text, rejects.c.location, rejects.c.source]
            gone[table.name] += _cross_out(connection, table, columns, name, word)
    return gone


def _cross_out(
    connection: Connection,
    table: sa.Table,
    columns: list[sa.Column[str]],
    name: str,
    word: re.Pattern[str],
) -> int:
    key = list(table.primary_key)
    likely = sa.or_(*(column.contains(name, autoescape=True) for column in columns))
    rows = connection.execute(sa.select(*key, *columns).where(likely)).all()
    changed = 0
    for row in rows:
        texts = {column.name: row[len(key) + n] for n, column in enumerate(columns)}
        new = {name: word.sub(ERASED, text) for name, text in texts.items() if text is not None}
        if all(new[name] == texts[name] for name in new):
            continue
        this = sa.and_(*(column == row[n] for n, column in enumerate(key)))
        if table is rejects:
            connection.execute(sa.delete(table).where(this))
        else:
            connection.execute(sa.update(table).where(this).values(**new))
        changed += 1
    return changed
