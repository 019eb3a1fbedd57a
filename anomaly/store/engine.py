"""Opens a database: SQLite or PostgreSQL, with the settings that the store relies on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from anomaly.exceptions import SettingsError
from anomaly.settings import secret_in

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

WRITES = "anomaly_writes"  # execution option: the transaction is going to write
BUSY_SECONDS = 5.0  # how long SQLite itself waits for another process's write
CONNECT_SECONDS = 10
# PostgreSQL ends a transaction whose client is silent for so long: one that is frozen while it
# writes would keep the rows it has locked, the lease's above all, from whoever takes its work over.
# Nobody waits longer for a lock: that time limit does not hold while a client copies rows, nor after
# many statements that were sent at once, so whoever waited ends what is frozen (`end_frozen`) and tries
# again.
FROZEN_SECONDS = 30
CACHE_KIB = 65_536  # SQLite's page cache; bulk writes into a sorted table are twice as fast with it


def open_engine(url: str, password_file: Path | None = None) -> Engine:
    """Prepare the connections to a database; the first use opens one.

    Args: url: sqlite:///PATH (relative to the working folder) or postgresql://USER@HOST/NAME.
        password_file: its first line is the password, instead of one in the url.
    Raises: SettingsError if the url cannot be used or the file cannot be read.
    """
    address = _address(url)
    if password_file is not None:
        address = address.set(password=secret_in(password_file, "[database] password_file"))
    if address.get_backend_name() == "sqlite":
        engine = sa.create_engine(_absolute(address), connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = sa.create_engine(
        address.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "anomaly",
            "client_encoding": "utf8",
        },
    )
    event.listen(engine, "begin", _begin_postgres)
    return engine


def _address(url: str) -> URL:
    try:
        address = make_url(url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        raise SettingsError(
            "[database] url is no address of a database. Write sqlite:///PATH or "
            "postgresql://USER@HOST:PORT/NAME."
        ) from error
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(
            f"[database] url: {address.drivername} is not supported. Use sqlite:/// or postgresql://."
        )
    if address.get_backend_name() == "sqlite" and address.database in (None, "", ":memory:"):
        raise SettingsError(
            "[database] url: a database in memory is gone with its connection. Name a file: "
            "sqlite:///anomaly.db"
        )
    return address


def _absolute(address: URL) -> URL:
    """A later change of the working folder must not lead to another file."""
    return address.set(database=str(Path(str(address.database)).absolute()))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun by _begin_sqlite, not by the driver.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    try:
        # Readers and one writer do not wait for each other.
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        # A database that may only be read keeps the journal it has.
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could find the database changed between the
    # two and fail; those that write say so and lock at once.
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get(WRITES, False):
        for limit in ("idle_in_transaction_session_timeout", "lock_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {limit} = '{FROZEN_SECONDS}s'")


def end_frozen(engine: Engine) -> None:
    """End this product's transactions that write to a database of PostgreSQL's and whose client has been
    silent for FROZEN_SECONDS.
    """
    ended = sa.text("""
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database()
          AND application_name = current_setting('application_name')
          AND state <> 'idle' AND wait_event_type = 'Client'
          AND state_change < clock_timestamp() - make_interval(secs => :seconds)
          AND pid IN (SELECT pid FROM pg_locks WHERE mode IN ('RowShareLock', 'RowExclusiveLock'))
    """)
    with engine.begin() as connection:
        connection.execute(ended, {"seconds": FROZEN_SECONDS})
