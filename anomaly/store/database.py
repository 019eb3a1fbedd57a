"""Runs work in transactions: all of it or none, again if the database was only away for a moment."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from anomaly.store.engine import WRITES, end_frozen
from anomaly.store.faults import explain, is_transient, waited_for_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")
FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 5.0


class Database:
    """The connections of one database, and how often lost ones are tried again."""

    def __init__(self, engine: Engine, retries: int) -> None:
        self.engine = engine
        self.postgres = engine.dialect.name == "postgresql"
        self._writer = engine.execution_options(**{WRITES: True})
        self._retrying = Retrying(
            stop=stop_after_attempt(retries + 1),
            wait=wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
            retry=retry_if_exception(is_transient),
            reraise=True,
        )

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, from one snapshot on SQLite.

        Raises: SourceError if the database fails.
        """
        return self._run(self.engine, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, committed. `work` may run more than once and starts afresh then.

        Raises: SourceError if the database fails; nothing was written then.
        """
        return self._run(self._writer, work)

    def now(self) -> dt.datetime:
        """What time it is by the database's own clock; of SQLite, this machine's."""
        if self.postgres:
            now = sa.select(sa.cast(sa.func.clock_timestamp(), sa.DateTime(timezone=True)))
            return self.read(lambda c: c.execute(now).scalar_one())
        clock = sa.select(sa.func.strftime("%Y-%m-%d %H:%M:%f", "now"))
        said: str = self.read(lambda c: c.execute(clock).scalar_one())
        return dt.datetime.fromisoformat(said).replace(tzinfo=dt.UTC)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn a driver's errors into ours; for work that cannot be tried again."""
        try:
            yield
        except Exception as error:
            if not _from_driver(error):
                raise
            raise explain(error, self.engine.url) from error

    def stream(self, begin: Callable[[], Iterator[T]]) -> Iterator[T]:
        """What an iteration gives; it begins again if it fails before its first item.

        Later it cannot: it would show the database as it is then.
        Raises: SourceError if the database fails.
        """

        def first() -> tuple[list[T], Iterator[T]]:
            items = begin()
            return list(islice(items, 1)), items

        with self.guarded():
            found, rest = self._retrying.copy()(first)
            yield from found
            yield from rest

    def insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        """An INSERT that can say ON CONFLICT; both databases write it alike."""
        return postgresql.insert(table) if self.postgres else sqlite.insert(table)

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        def attempt() -> T:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except Exception as error:
                if waited_for_lock(error):
                    end_frozen(engine)
                raise

        with self.guarded():
            return self._retrying.copy()(attempt)


def _from_driver(error: Exception) -> bool:
    """Whether a database's driver raised it, by way of SQLAlchemy or not."""
    if isinstance(error, SQLAlchemyError):
        return True
    return type(error).__module__.split(".")[0] in ("sqlite3", "psycopg", "adbc_driver_manager")


def row_values(row: Any) -> dict[str, Any]:
    """A result row by column name."""
    return dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's documented name)
