"""The calendar: anomaly events, and what the import of one says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import UsageError
from anomaly.wording import counted, listed
from pipelines.cli import output
from pipelines.cli.output import Format
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.store import EventEntry
    from pipelines.jobs.events import Entered
    from pipelines.services import Services

SHORT = 12  # characters of an id that a table shows
COLUMNS = (
    "event_id", "kind", "start", "end", "whom", "name", "added_at", "author", "withdrawn_at",
    "withdrawn_by",
)  # fmt: skip
SHOWN = COLUMNS[:6]
AUTHOR = typer.Option(None, "--author", help="Who says so. Default: you.")
REJUDGE = typer.Option(
    False,
    "--rejudge",
    help="Judge the closed months it touches anew at once, not with the next run.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        no_args_is_help=True, help="The calendar: leave, holidays, pay-days, announced events."
    )
    group.command("list")(list_events)
    group.command()(add)
    group.command()(withdraw)
    app.add_typer(group, name="events")


def list_events(
    context: typer.Context,
    withdrawn: bool = typer.Option(False, "--withdrawn", help="Those too that were withdrawn."),
    form: Format = typer.Option(Format.table, "--format", help="How to write them."),
    out: Path | None = typer.Option(None, "--out", help="Write to this file."),
) -> None:
    """What the calendar knows, by time."""
    shell = shell_of(context)
    records = [_record(entry) for entry in shell.services().store.events.list(withdrawn=withdrawn)]
    if form is Format.table:
        if out is not None:
            raise UsageError("--out: a table is for the terminal. Add --format csv or json.")
        names = (*SHOWN, "withdrawn_at") if withdrawn else SHOWN
        short = [{**record, "event_id": str(record["event_id"])[:SHORT]} for record in records]
        rows = ([record[name] for name in names] for record in short)
        output.show(shell, "events", names, rows)
        return
    import pyarrow as pa

    table = pa.table({name: [record[name] for record in records] for name in COLUMNS})
    output.write(table, form, out)


def add(
    context: typer.Context,
    kind: str = typer.Argument(help="leave, holiday, payday or announced."),
    start: str = typer.Option(..., "--from", help="A day, or a time: 2026-10-31T08:00Z."),
    end: str = typer.Option("", "--until", help="Exclusive. Default: a day later."),
    name: str = typer.Option("", "--name", help="What it is called."),
    user: str = typer.Option("", "--user", help="Of this user alone."),
    cohort: str = typer.Option("", "--cohort", help="Of this peer group alone."),
    author: str | None = AUTHOR,
    rejudge: bool = REJUDGE,
) -> None:
    """Enter one event, of everyone unless --user or --cohort says whose it is."""
    from anomaly.sources.calendars import read_entry
    from pipelines.exclusive import exclusive
    from pipelines.jobs.people import enter_entries

    shell = shell_of(context)
    services = shell.services()
    given = {
        "kind": kind,
        "start": start,
        "end": end,
        "name": name,
        "user_id": user,
        "cohort": cohort,
    }
    entry = read_entry(given, "events add", services.timezone)
    with exclusive(services):
        entered = enter_entries(services, [entry], author or shell.person)
    tell(shell, services, "events add", entered, rejudge=rejudge)


def withdraw(
    context: typer.Context,
    event_id: str = typer.Argument(help="As events list gives it, or the beginning of it."),
    author: str | None = AUTHOR,
    rejudge: bool = REJUDGE,
) -> None:
    """Take an event out of the calendar; it stays in the list of those withdrawn."""
    from pipelines.jobs.events import withdraw as take_out

    shell = shell_of(context)
    services = shell.services()
    entry = take_out(services, event_id, author or shell.person)
    shell.say(
        f"event {entry.event_id[:SHORT]} ({entry.event.kind} of {entry.event.whom}) is withdrawn"
    )
    tell_rejudged(shell, services, rejudge=rejudge)


def tell(shell: Shell, services: Services, source: str, entered: Entered, *, rejudge: bool) -> None:
    """Say what became of events, and of the closed months they touch."""
    shell.say(f"{source}: {counted(len(entered.rows), 'event')}, {len(entered.new)} new")
    tell_unknown(shell, source, entered.nobody, "withdraw them: anomaly events list")
    tell_rejudged(shell, services, rejudge=rejudge)


def tell_unknown(shell: Shell, source: str, names: Sequence[str], undo: str) -> None:
    """Warn of names of which nothing is known: they may be misspelt."""
    if names:
        shell.note(
            f"{source}: nothing is known yet of {listed(names)}; it counts once there are rows. If a name is "
            f"misspelt, {undo}"
        )


def tell_rejudged(shell: Shell, services: Services, *, rejudge: bool) -> None:
    """Judge closed months anew where that was asked for, and say which wait."""
    from pipelines.jobs.events import rejudge as judge_anew

    waiting = services.store.late.waiting()
    if rejudge:
        found = judge_anew(services)
        waiting = found.waiting
        for outcome in found.done:
            shell.say(f"{outcome.month} {outcome.note}")
        if found.done:
            shell.say("which flags came, went and changed: anomaly flags changes")
    for month, users in waiting.items():
        again = "it stands as it was: the log says why" if rejudge else "the next run does it"
        shell.say(f"{month}: {counted(users, 'user')} to be judged anew; {again}")


def _record(entry: EventEntry) -> dict[str, object]:
    event = entry.event
    return {
        "event_id": entry.event_id,
        "kind": event.kind,
        "start": event.start,
        "end": event.end,
        "whom": event.whom,
        "name": event.name,
        "added_at": entry.added_at,
        "author": entry.author,
        "withdrawn_at": entry.withdrawn_at,
        "withdrawn_by": entry.withdrawn_by,
    }
