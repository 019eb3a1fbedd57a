"""Upkeep: state, retention, cohorts."""

from __future__ import annotations

from collections import Counter

import typer

from anomaly.exceptions import UsageError
from pipelines.cli import output
from pipelines.cli.shell import not_yet, shell_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(retention)
    for name, text, commands in (
        ("state", "What is known of each user.", {"rebuild": rebuild}),
        ("cohorts", "Peer groups.", {"list": list_cohorts, "move": move}),
    ):
        group = typer.Typer(no_args_is_help=True)
        group.callback(help=text)(_group)
        for word, command in commands.items():
            group.command(word)(command)
        app.add_typer(group, name=name)


def _group() -> None:
    """Keep a group a group where it has one command."""


def rebuild(
    context: typer.Context, month: str = typer.Option(..., "--month", help="States at its start.")
) -> None:
    """Rebuild what the champion knows of each user, from history."""
    from anomaly.months import Month
    from pipelines.jobs.rebuild import rebuild_states

    shell = shell_of(context)
    wanted = Month.parse(month)
    users, model = rebuild_states(shell.services(), wanted)
    shell.say(f"states of {users} users at the start of {wanted} rebuilt for model {model}")


def retention(
    context: typer.Context,
    dry_run: bool = typer.Option(False, "--dry-run", help="Count what is due; delete nothing."),
) -> None:
    """What [retention] would delete."""
    from pipelines.jobs.retention import due

    if not dry_run:
        raise not_yet("retention without --dry-run", "Count what is due with --dry-run.")
    shell = shell_of(context)
    output.show(shell, "due for deletion", ("what", "kept", "rows"), due(shell.services()))


def list_cohorts(
    context: typer.Context, month: str = typer.Option(..., "--month", help="2026-10.")
) -> None:
    """Peer groups of a month and how many users each has."""
    from anomaly.months import Month

    shell = shell_of(context)
    rows = shell.services().store.flags.user_months(str(Month.parse(month)))
    members = Counter(row.user_month.cohort for row in rows if row.user_month.skipped is None)
    if not members:
        raise UsageError(f"{month}: no user is scored. Run it first: anomaly run --month {month}")
    output.show(shell, f"cohorts of {month}", ("cohort", "users"), sorted(members.items()))


def move(context: typer.Context) -> None:
    """Put a user into another peer group."""
    del context
    raise not_yet("cohorts move", "Peer groups follow behaviour; see: anomaly cohorts list")
