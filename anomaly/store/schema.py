"""The schema's versions: only migrations make tables, and only on request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import anomaly
from anomaly.exceptions import SchemaError, UsageError
from anomaly.store.database import Database
from anomaly.store.faults import place

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection, Engine

# Migrations lie beside the library, in a checkout and where the wheel is installed.
FOLDER = Path(anomaly.__file__).resolve().parent.parent / "migrations"
RETRIES = 2
# Any number, the same in all processes: PostgreSQL lets one of them migrate at a time.
MIGRATION_LOCK = 7_146_532_017


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a revision, in one transaction.

    Raises: SchemaError if the database is newer than this version; SourceError if it fails.
    """
    _check_known(engine, current(engine))
    _migrate(engine, lambda config: command.upgrade(config, revision))


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to a revision ("base" removes all of it), in one transaction.

    Raises: UsageError if there is no such revision; SchemaError, SourceError as `upgrade`.
    """
    _check_known(engine, current(engine))
    if revision != "base" and not _is_known(revision):
        known = ", ".join(script.revision for script in _scripts().walk_revisions())
        raise UsageError(f"revision {revision!r} is none of {known}, base.")
    _migrate(engine, lambda config: command.downgrade(config, revision))


def current(engine: Engine) -> str | None:
    """The revision of the database; None before the first upgrade."""
    return Database(engine, RETRIES).read(
        lambda connection: MigrationContext.configure(connection).get_current_revision()
    )


def head() -> str:
    """The revision that this version needs."""
    return str(_scripts().get_current_head())


def check(engine: Engine) -> None:
    """Make sure that the schema is this version's.

    Raises: SchemaError that says what to do; SourceError if the database fails.
    """
    found = current(engine)
    _check_known(engine, found)
    if found is None:
        raise SchemaError(
            f"database {place(engine.url)} has no tables yet. Run: anomaly db upgrade"
        )
    if found != head():
        raise SchemaError(
            f"database {place(engine.url)} is at {found}, this version needs {head()}. "
            "Run: anomaly db upgrade"
        )


def _check_known(engine: Engine, revision: str | None) -> None:
    if revision is not None and not _is_known(revision):
        raise SchemaError(
            f"database {place(engine.url)} is at {revision}, which is newer than this version "
            f"({anomaly.__version__}, {head()}). Install a newer anomaly."
        )


def _is_known(revision: str) -> bool:
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _migrate(engine: Engine, change: Callable[[Config], None]) -> None:
    def work(connection: Connection) -> None:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        change(config)

    Database(engine, RETRIES).write(work)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    # The configuration parser takes % for the beginning of a name.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
