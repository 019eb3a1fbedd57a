"""anomaly db: the schema."""

from __future__ import annotations

import typer

from anomaly.exceptions import BusyError
from pipelines.cli.shell import shell_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Migrations of the database's schema.")
    group.command()(upgrade)
    group.command()(downgrade)
    group.command()(check)
    group.command()(sweep)
    app.add_typer(group, name="db")


def upgrade(context: typer.Context) -> None:
    """Bring the schema to this version; an empty database gets all of it."""
    from anomaly.store import schema
    from pipelines.services import open_database

    shell = shell_of(context)
    engine = open_database(shell.settings)
    before = schema.current(engine)
    schema.upgrade(engine)
    after = schema.current(engine)
    shell.say(
        f"the schema is at {after}"
        + ("" if before == after else f", it was at {before or 'nothing'}")
    )


def downgrade(
    context: typer.Context,
    revision: str = typer.Argument(help="The revision to go back to, or base for none."),
) -> None:
    """Take the schema back to REVISION. What later tables held is lost."""
    from anomaly.store import schema
    from pipelines.services import open_database

    shell = shell_of(context)
    engine = open_database(shell.settings)
    schema.downgrade(engine, revision)
    shell.say(f"the schema is at {schema.current(engine) or 'nothing'}")


def check(context: typer.Context) -> None:
    """Say whether the schema is this version's."""
    from anomaly.store import schema
    from pipelines.services import open_database

    shell = shell_of(context)
    engine = open_database(shell.settings)
    schema.check(engine)
    shell.say(f"the schema is at {schema.current(engine)}, as this version needs it")


def sweep(context: typer.Context) -> None:
    """Rewrite the database, so that nothing of deleted rows is left in its files."""
    from pipelines.jobs.erase import swept

    shell = shell_of(context)
    if not swept(shell.services()):
        raise BusyError("another process reads the database's log. Stop it and try again.")
    shell.say("nothing of deleted rows is left in the database's files")
