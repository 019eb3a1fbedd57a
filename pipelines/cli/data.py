"""anomaly init, check, plan and import: from somebody's table to a month that can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import AnomalyError, UsageError
from anomaly.wording import counted
from pipelines.cli import output
from pipelines.cli.arguments import one_of
from pipelines.cli.events import REJUDGE, tell, tell_rejudged
from pipelines.cli.shell import shell_of

if TYPE_CHECKING:
    from pipelines.jobs.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(init)
    app.command()(check)
    app.command()(plan)
    app.command("import")(import_files)


def init(
    context: typer.Context,
    out: Path | None = typer.Option(
        None, "--out", help="Write to this file. Default: as --config says, else anomaly.toml."
    ),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there."),
) -> None:
    """Write an anomaly.toml with every setting, its default and its meaning."""
    from anomaly.settings import DEFAULT_CONFIG, template

    shell = shell_of(context)
    path = out or shell.config or Path(DEFAULT_CONFIG)
    if path.exists() and not force:
        raise UsageError(f"{path}: is there already. Keep it, or replace it with --force.")
    output.whole_file(path, lambda file: file.write(template().encode()))
    shell.say(f"{path} written. Next: set [database] url, then anomaly db upgrade")


def check(context: typer.Context) -> None:
    """Validate the settings, the database, the source and the data."""
    from pipelines.jobs.check import run_checks

    shell = shell_of(context)
    checks = run_checks(shell.services)
    output.show(
        shell,
        "checks",
        ("what", "result", "remark"),
        ((line.what, "ok" if line.error is None else "FAILS", line.remark) for line in checks),
    )
    failed: list[AnomalyError] = [line.error for line in checks if line.error is not None]
    if failed:
        raise failed[0]


def plan(
    context: typer.Context,
    month: str = typer.Option(..., "--month", help="2026-10."),
    form: str = typer.Option("table", "--format", help="table or json."),
) -> None:
    """What a run would do: rows, users, memory, minutes, expected flags. Changes nothing."""
    import json
    from dataclasses import asdict

    from anomaly.months import Month
    from pipelines.jobs.plan import plan_month

    one_of("--format", form, ("table", "json"))
    shell = shell_of(context)
    found = plan_month(shell.services(), Month.parse(month))
    if form == "json":
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    output.show(shell, f"a run of {found.month} would", ("what", "how much"), plan_lines(found))


def plan_lines(plan: Plan) -> list[tuple[str, str]]:
    """The plan for a reader."""
    trains = f"yes, on {plan.learnt:,} users" if plan.learnt else "no"
    lines = [
        ("rows in the month", f"{plan.rows:,}"),
        ("rows to read first", f"about {plan.new_rows:,}" if plan.new_rows else "none known"),
        ("users", f"{plan.users:,}"),
        ("train a model", trains),
        ("months to learn users from", str(plan.history)),
        ("end as", plan.state),
        ("memory", f"about {plan.memory / 2**20:,.0f} MiB"),
        ("time", f"about {duration(plan.seconds)}"),
        ("flags expected", "not known before a month is complete"),
        ("of them by chance", "as [threshold] says"),
        ("stands already", plan.standing),
    ]
    known = {}
    if plan.flags is not None:
        known["flags expected"] = f"about {plan.flags:.0f}, as in the months before"
    if plan.chance is not None:
        known["of them by chance"] = f"at most {plan.chance:.1f}"
    return [(name, known.get(name, text)) for name, text in lines]


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def import_files(
    context: typer.Context,
    files: list[Path] | None = typer.Argument(None, help="CSV or Parquet files, or folders."),
    users: Path | None = typer.Option(None, "--users", help="What is known of users, as CSV."),
    calendar: Path | None = typer.Option(
        None, "--calendar", help="Leave, holidays, pay-days, announced events, as CSV or .ics."
    ),
    columns: str | None = typer.Option(
        None, "--columns", help="user_id=…,metric=…,observed_at=…,value=… where names differ."
    ),
    metric: str | None = typer.Option(None, "--metric", help="The metric, where no column says."),
    rejudge: bool = REJUDGE,
) -> None:
    """Observations from files into the database; equal rows change nothing, later values win."""
    from anomaly.sources.layout import parse_columns
    from anomaly.sources.people import passed_over
    from pipelines.figures import handed_on
    from pipelines.jobs.ingest import ingest_file
    from pipelines.jobs.people import import_calendar, import_users

    if not files and users is None and calendar is None:
        raise UsageError("import: nothing to import. Name a FILE, --users FILE or --calendar FILE.")
    shell = shell_of(context)
    mapping = parse_columns(columns or "")
    services = shell.services()
    with handed_on(services):
        for file in files or []:
            done = ingest_file(services, file, mapping, metric)
            tally = done.tally
            rejected = ", ".join(
                f"{reason}: {count}" for reason, count in sorted(tally.reasons.items())
            )
            shell.say(
                f"{file.name}: {tally.read} rows read, {done.inserted} new, {done.corrected} corrected, "
                f"{done.unchanged + tally.joined} known already"
                + (f", {tally.rejected} set aside ({rejected})" if tally.rejected else "")
                + (f"; late rows of {counted(len(done.late), 'user')}" if done.late else "")
                + (f", {tally.erased} of erased users left out" if tally.erased else "")
                + output.passed_over(tally.passed)
            )
    if users is not None:
        said = f"{users.name}: {import_users(services, users)} users"
        shell.say(said + output.passed_over(passed_over(users)))
    if calendar is not None:
        entered = import_calendar(services, calendar, shell.person)
        tell(shell, services, calendar.name, entered, rejudge=rejudge)
    elif rejudge:
        tell_rejudged(shell, services, rejudge=True)
