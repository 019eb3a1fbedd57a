"""Upkeep: state, retention, cohorts."""

from __future__ import annotations

from collections.abc import Callable

import typer

from anomaly.exceptions import UsageError
from pipelines.cli import output
from pipelines.cli.shell import shell_of


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(retention)
    groups: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
        "state": ("What is known of each user.", {"rebuild": rebuild}),
        "cohorts": (
            "Peer groups.",
            {"list": list_cohorts, "show": show_cohort, "move": move, "moved": moved},
        ),
    }
    for name, (text, commands) in groups.items():
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
    """Delete what [retention] no longer keeps, as the schedule does after each scoring."""
    from pipelines.exclusive import exclusive
    from pipelines.jobs.retention import delete_due, due

    shell = shell_of(context)
    services = shell.services()
    if dry_run:
        title, found = "due for deletion", due(services)
    else:
        with exclusive(services) as holding:
            title, found = "deleted", delete_due(services, holding, shell.actor)
    rows = [
        (one.what, "for ever" if one.since is None else f"since {one.since}", one.rows)
        for one in found
    ]
    if rows:
        output.show(shell, title, ("what", "kept", "rows"), rows)
    else:
        shell.say("nothing is older than [retention] keeps it")


def list_cohorts(
    context: typer.Context, month: str = typer.Option(..., "--month", help="2026-10.")
) -> None:
    """Peer groups of a month, how many users each has, and what sets them apart."""
    from anomaly.months import Month

    shell = shell_of(context)
    groups = shell.services().store.flags.cohorts(str(Month.parse(month)))
    if not groups:
        raise UsageError(f"{month}: no user is scored. Run it first: anomaly run --month {month}")
    lines = ((name, group.users, group.why) for name, group in groups.items())
    output.show(shell, f"cohorts of {month}", ("cohort", "users", "why"), lines)


def show_cohort(
    context: typer.Context,
    cohort: str = typer.Argument(help="As cohorts list gives it."),
    month: str = typer.Option(..., "--month", help="2026-10."),
) -> None:
    """Who is in a peer group, why, and how far from its middle (1 is typical)."""
    from anomaly.months import Month

    shell = shell_of(context)
    flags = shell.services().store.flags
    rows = flags.user_months(str(Month.parse(month)), cohort=cohort)
    if not rows:
        raise UsageError(f"{month}: nobody is in {cohort[:40]!r}. See: anomaly cohorts list")
    months = [row.user_month for row in rows]
    lines = (
        (one.user_id, one.cohort_distance, one.score, one.flags, one.cohort_why) for one in months
    )
    columns = ("user", "from the middle", "score", "flags", "why")
    output.show(shell, f"{cohort}, {month}", columns, lines)


def moved(context: typer.Context) -> None:
    """Who was put into another peer group by hand."""
    shell = shell_of(context)
    rows = shell.services().store.cohorts.moved()
    lines = ((row.user_id, row.cohort, row.author, row.assigned_at, row.reason) for row in rows)
    output.show(shell, "moved by hand", ("user", "cohort", "by", "since", "why"), lines)


def move(
    context: typer.Context,
    user: str = typer.Argument(help="Whom."),
    cohort: str | None = typer.Argument(None, help="Into which group; see cohorts list."),
    back: bool = typer.Option(False, "--back", help="Take it back: habits and columns decide."),
    new: bool = typer.Option(False, "--new", help="The group may be one that nobody is in yet."),
    reason: str = typer.Option("", "--reason", help="Why; who reads the list asks."),
    author: str | None = typer.Option(None, "--author", help="Who says so. Default: you."),
) -> None:
    """Compare a user with another peer group, from the next scored month on."""
    from pipelines.jobs import groups

    shell = shell_of(context)
    if back == (cohort is not None):
        raise UsageError("cohorts move: name a cohort, or take a move back with --back.")
    if cohort is None:
        groups.release(shell.services(), user)
        shell.say(f"{user}: habits and columns decide again, from the next scored month on")
        return
    who = author or shell.person
    groups.move(shell.services(), user, cohort, who, reason, new=new)
    shell.say(f"{user} is compared with {cohort} from the next scored month on")
