"""What a database's errors mean: whether to try again, and what to tell the user.

Messages name the database's host or path and a remedy, never a password.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from anomaly.exceptions import DataError, SchemaError, SourceError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from anomaly.exceptions import AnomalyError

AWAY = "cannot be reached. Check that it is running and that [database] url has its host and port"
BUSY = "is busy with another process's work. Try again when that has ended"
FULL = (
    "has no space left on its disk. Free space and run the command again; nothing was half-written"
)
NO_TABLE = "lacks a table of this version. Run: anomaly db upgrade"
READ_ONLY = "cannot be written. Give this user the right to write to it"
LOGIN = "refused the login. Check the user in [database] url and its password ([database] password_file)"
CONSTRAINT = "refused a row that breaks one of its constraints"

# SQLite's primary result codes, https://www.sqlite.org/rescode.html
_SQLITE = {
    sqlite3.SQLITE_BUSY: BUSY,
    sqlite3.SQLITE_LOCKED: BUSY,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: READ_ONLY,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that its folder exists and may be written",
    sqlite3.SQLITE_NOTADB: "is no SQLite database. Check [database] url",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore it from a backup",
    sqlite3.SQLITE_IOERR: "cannot be read or written. Check its disk",
    sqlite3.SQLITE_TOOBIG: "refused a value that is too large for it",
}
_LOCKED = "55P03"
# PostgreSQL's classes and codes, https://www.postgresql.org/docs/current/errcodes-appendix.html;
# the longest beginning that matches counts.
_POSTGRES = {
    "08": AWAY,
    "23": CONSTRAINT,
    "25006": READ_ONLY,
    "25P03": AWAY,  # this process was silent for too long in the middle of a transaction
    "28": LOGIN,
    "3D000": "does not exist. Create it: createdb NAME",
    "40": BUSY,
    "42501": READ_ONLY,
    "42P01": NO_TABLE,
    "42703": NO_TABLE,
    "53": "has run out of memory or connections. Try again later",
    "53100": FULL,
    _LOCKED: BUSY,
    "57": AWAY,
    "57014": "stopped a statement that took longer than it allows",
}
# libpq gives no code for a connection that was never made, only the server's words.
_REFUSALS = {
    "password authentication failed": LOGIN,
    "no password supplied": LOGIN,
    "no pg_hba.conf entry": LOGIN,
    'role "': LOGIN,
    'database "': _POSTGRES["3D000"],
}
_TRANSIENT = (AWAY, BUSY, _POSTGRES["53"])


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed a moment later."""
    return isinstance(error, PoolTimeoutError) or (
        isinstance(error, Exception) and _meaning(_driver_error(error)) in _TRANSIENT
    )


def waited_for_lock(error: Exception) -> bool:
    """Whether PostgreSQL gave up waiting for what another transaction has locked."""
    return getattr(_driver_error(error), "sqlstate", None) == _LOCKED


def explain(error: Exception, url: URL) -> AnomalyError:
    """The error to raise in place of a database driver's."""
    cause = _driver_error(error)
    meaning = _meaning(cause) or "failed"
    words = " ".join(str(cause).split())[:300]
    if url.password:
        words = words.replace(str(url.password), "***")
    kind = {NO_TABLE: SchemaError, CONSTRAINT: DataError}.get(meaning, SourceError)
    return kind(f"database {place(url)} {meaning}. ({words})")


def place(url: URL) -> str:
    """Where a database is, for a reader: a path, or host, port and name."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "on this machine"
    port = f":{url.port}" if url.port else ""
    return f"{url.database} at {host}{port}"


def _driver_error(error: Exception) -> BaseException:
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error


def _meaning(error: BaseException) -> str | None:
    if isinstance(error, PoolTimeoutError):
        return BUSY
    if isinstance(error, sqlite3.Error):
        return _sqlite_meaning(error)
    state = (getattr(error, "sqlstate", None) or "").strip("\0")  # ADBC pads what it lacks
    if state:
        fitting = [code for code in _POSTGRES if state.startswith(code)]
        return _POSTGRES[max(fitting, key=len)] if fitting else None
    words = str(error)
    for said, meaning in _REFUSALS.items():
        if said in words:
            return meaning
    # Without a code the driver never reached the server, or lost it midway.
    return AWAY if type(error).__name__ == "OperationalError" else None


def _sqlite_meaning(error: sqlite3.Error) -> str | None:
    if isinstance(error, sqlite3.IntegrityError):
        return CONSTRAINT
    if str(error).startswith(("no such table", "no such column")):
        return NO_TABLE
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _SQLITE.get(code & 0xFF)
