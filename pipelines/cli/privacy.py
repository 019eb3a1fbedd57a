"""anomaly audit, key, erase and reveal: what concerns names of people, and who looked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import DataError
from pipelines.cli import output
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    from pipelines.services import Services

REASON = typer.Option(
    ..., "--reason", help="Why, such as the number of a ticket; the audit keeps it for ever."
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    audit = typer.Typer(no_args_is_help=True, help="Who did what.")
    audit.command()(verify)
    audit.command("list")(list_rows)
    app.add_typer(audit, name="audit")
    key = typer.Typer(no_args_is_help=True, help="The key of names and of the audit.")
    key.command()(create)
    key.command()(rotate)
    app.add_typer(key, name="key")
    app.command()(erase)
    app.command()(reveal)


def verify(
    context: typer.Context,
    expect: str | None = typer.Option(
        None, "--expect", help="The last digest of an earlier call; its row must still be there."
    ),
) -> None:
    """Check the audit's chain of hashes: no row altered, removed or moved."""
    shell = shell_of(context)
    rows, digest, found = shell.services().audit.findings(expect)
    for line in found:
        shell.say(line)
    if found:
        raise DataError(
            f"the audit of {rows} rows is not as it was written. Compare it with a backup."
        )
    shell.say(f"{rows} rows, none altered, removed or moved" + (f"; {digest}" if digest else ""))


def list_rows(
    context: typer.Context,
    actor: str | None = typer.Option(None, "--actor", help="Only what this one did."),
    subject: str | None = typer.Option(None, "--subject", help="Only of this: user:ann."),
) -> None:
    """Who did what, in keyed hashes; --actor and --subject find the rows of a name."""
    shell = shell_of(context)
    rows = shell.services().audit.rows(actor, subject)
    columns = ("row", "when", "actor", "action", "subject", "reason")
    lines = (
        (entry.id, f"{entry.happened_at:%Y-%m-%d %H:%M:%S}", entry.actor[:8], entry.action,
         entry.subject, entry.reason)
        for entry in rows
    )  # fmt: skip
    output.show(shell, "audit", columns, lines)


def create(
    context: typer.Context, file: Path = typer.Argument(help="Where the key is to lie.")
) -> None:
    """Write a file with a new key. Keep it apart from the database and from its backups."""
    from pipelines.keys import create_key_file

    name = create_key_file(file)
    shell_of(context).say(
        f'{file} holds key {name}. Next: key_file = "{file}" in the section [privacy]'
    )


def rotate(context: typer.Context) -> None:
    """Replace the key in [privacy] key_file; the old one opens nothing any more."""
    from pipelines.keys import rotate_key

    shell = shell_of(context)
    services = shell.services()
    services.audit.record(shell.actor, "key.rotate", "key:")
    old, new = rotate_key(services.settings, services.store, services.clock())
    shell.say(f"key {new} has replaced {old}; pseudonyms stay as they are")


def erase(
    context: typer.Context,
    user: str = typer.Option(..., "--user", help="A name, or user_id as flags show it."),
    reason: str = REASON,
    keep_out: bool = typer.Option(
        False, "--keep-out", help="Rows observed from now on do not come in either."
    ),
) -> None:
    """Remove every trace of a user from the database. It cannot be undone."""
    from pipelines.jobs.erase import erase_user

    shell = shell_of(context)
    services = shell.services()
    done = erase_user(services, _administrator(shell, services), user, reason, keep_out=keep_out)
    columns = ("table", "rows removed or crossed out")
    output.show(shell, "erased", columns, sorted(done.rows.items()))
    if done.swept:
        shell.say("erased. Exports and backups that were made before still hold the user")
    else:
        shell.say(
            "erased from every table, but another process reads the database, so its log may still "
            "hold rows. Stop that process and run: anomaly db sweep"
        )


def reveal(
    context: typer.Context,
    pseudonym: str = typer.Argument(help="As flags show it."),
    reason: str = REASON,
) -> None:
    """Say the name behind a pseudonym. The audit keeps who asked, and why."""
    from pipelines.jobs.erase import reveal_user

    shell = shell_of(context)
    services = shell.services()
    shell.say(reveal_user(services, _administrator(shell, services), pseudonym, reason))


def _administrator(shell: Shell, services: Services) -> str:
    """Who acts, if they have the right."""
    from pipelines.right import VARIABLE, administrator

    return administrator(services, shell.actor, os.environ.get(VARIABLE))
