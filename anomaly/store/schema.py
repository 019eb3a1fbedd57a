"""The schema's versions: only migrations make tables, and only on request."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

import anomaly
from anomaly.exceptions import SchemaError, UsageError
from anomaly.store.database import Database
from anomaly.store.faults import place

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy.engine import Connection, Engine

# Migrations lie beside the library, in a checkout and where the wheel is installed.
FOLDER = Path(anomaly.__file__).resolve().parent.parent / "migrations"
PREVIOUS = re.compile(r'^down_revision = "(\w+)"', re.MULTILINE)
RETRIES = 2
VERSION = sa.table("alembic_version", sa.column("version_num", sa.Text))  # Alembic's own
# Any number, the same in all processes: PostgreSQL lets one of them migrate at a time.
MIGRATION_LOCK = 7_146_532_017


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a revision, in one transaction.

    Raises: SchemaError if the database is newer than this version; SourceError if it fails.
    """
    _check_known(engine, current(engine))
    _migrate(engine, "upgrade", revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to a revision ("base" removes all of it), in one transaction.

    Raises: UsageError if there is no such revision; SchemaError, SourceError as `upgrade`.
    """
    _check_known(engine, current(engine))
    if revision not in ("base", *revisions()):
        raise UsageError(f"revision {revision!r} is none of base, {', '.join(revisions())}.")
    _migrate(engine, "downgrade", revision)


def current(engine: Engine) -> str | None:
    """The revision of the database; None before the first upgrade."""
    return Database(engine, RETRIES).read(_revision)


@cache
def revisions() -> tuple[str, ...]:
    """All that this version knows, the oldest first: each names the one before it."""
    # Read as text: Alembic would say it too, and takes a second to be imported.
    after = {
        (found.group(1) if (found := PREVIOUS.search(file.read_text("utf-8"))) else None): file.name
        for file in (FOLDER / "versions").glob("[0-9]*_*.py")
    }
    chain: list[str] = []
    while (name := after.get(chain[-1] if chain else None)) is not None:
        chain.append(name[:4])
    return tuple(chain)


def head() -> str:
    """The revision that this version needs."""
    return revisions()[-1]


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
    if revision is not None and revision not in revisions():
        raise SchemaError(
            f"database {place(engine.url)} is at {revision}, which is newer than this version "
            f"({anomaly.__version__}, {head()}). Install a newer anomaly."
        )


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION.name):
        return None
    return connection.execute(sa.select(VERSION.c.version_num)).scalar_one_or_none()


def _migrate(engine: Engine, direction: Literal["upgrade", "downgrade"], revision: str) -> None:
    # Only migrations need it; whoever looks at flags should not wait for it.
    from alembic import command  # noqa: PLC0415

    def work(connection: Connection) -> None:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config = _config()
        config.attributes["connection"] = connection
        if direction == "upgrade":
            command.upgrade(config, revision)
        else:
            command.downgrade(config, revision)

    Database(engine, RETRIES).write(work)


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    # The configuration parser takes % for the beginning of a name.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
