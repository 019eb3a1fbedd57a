"""anomaly run and backfill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipelines.cli import output
from pipelines.cli.arguments import users_of
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    from pipelines.jobs.books import Outcome

SHOWN_FLAGS = 20

NO_TRAIN = typer.Option(False, "--no-train", help="Score with the champion, however old.")
USERS = typer.Option(None, "--users", help="Only these: a,b,c or @FILE with one a line.")
DRY_RUN = typer.Option(False, "--dry-run", help="Say what would be flagged; write nothing.")
FORCE = typer.Option(False, "--force", help="Score a complete month again; the old flags are kept.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(run)
    app.command()(backfill)


def run(
    context: typer.Context,
    month: str = typer.Option(..., "--month", help="2026-10."),
    no_train: bool = NO_TRAIN,
    users: str | None = USERS,
    dry_run: bool = DRY_RUN,
    force: bool = FORCE,
) -> None:
    """The monthly run: ingest, train if due, score, flag, publish."""
    from anomaly.months import Month
    from pipelines.figures import handed_on
    from pipelines.jobs.month import run_month
    from pipelines.jobs.scope import Options
    from pipelines.jobs.tell import tell_carefully

    shell = shell_of(context)
    wanted = Month.parse(month)
    options = Options(not no_train, users_of(users), dry_run, force)
    services = shell.services()
    with handed_on(services):
        tell(shell, run_month(services, wanted, options))
        tell_carefully(services)


def backfill(
    context: typer.Context,
    first: str = typer.Option(..., "--from", help="The first month: 2026-01."),
    last: str = typer.Option(..., "--to", help="The last month: 2026-10."),
    no_train: bool = NO_TRAIN,
    users: str | None = USERS,
    dry_run: bool = DRY_RUN,
    force: bool = FORCE,
) -> None:
    """The same for each month in order, each learning only from what came before it."""
    from anomaly.months import Month
    from pipelines.figures import handed_on
    from pipelines.jobs.backfill import backfill as each_month
    from pipelines.jobs.scope import Options
    from pipelines.jobs.tell import tell_carefully

    shell = shell_of(context)
    months = Month.parse(first), Month.parse(last)
    options = Options(not no_train, users_of(users), dry_run, force)
    services = shell.services()
    with handed_on(services):
        for outcome in each_month(services, *months, options):
            tell(shell, outcome)
        tell_carefully(services)


def tell(shell: Shell, outcome: Outcome) -> None:
    """What a run came to, and its highest flags."""
    if outcome.flags:
        title = f"{outcome.month}: the highest {min(SHOWN_FLAGS, len(outcome.flags))} flags"
        output.show_flags(shell, title, outcome.flags[:SHOWN_FLAGS])
    skipped = ", ".join(f"{reason}: {count}" for reason, count in outcome.users_skipped.items())
    shell.say(
        f"{outcome.month} {outcome.state}: {len(outcome.flags)} flags, {outcome.users_scored} users "
        f"scored"
        + (f", not scored {skipped}" if skipped else "")
        + f", model {outcome.model_version}"
    )
    if outcome.note:
        shell.say(outcome.note)
