"""anomaly selftest and models compare: models put to the test on a month that is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anomaly.exceptions import UsageError
from anomaly.wording import score, share
from pipelines.cli import output
from pipelines.cli.output import Format
from pipelines.cli.shell import Shell, shell_of

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.jobs.selftest import Verdict

MONTH = typer.Option(..., "--month", help="2026-10.")
SEED = typer.Option(0, "--seed", min=0, help="Another seed, other places for the incidents.")
INCIDENTS = typer.Option(
    240, "--incidents", min=1, help="At most so many, each in another user; half of the users."
)
FORM = typer.Option(Format.table, "--format", help="table, csv or json.")
SHOWN_CHANGES = 25


def register(app: typer.Typer) -> None:
    """Add the command that stands alone; `anomaly models` adds the other."""
    app.command()(selftest)


def selftest(
    context: typer.Context,
    month: str = MONTH,
    seed: int = SEED,
    incidents: int = INCIDENTS,
    form: Format = FORM,
    page: Path | None = typer.Option(
        None, "--page", help="Write a plot of it too, as an HTML page of its own."
    ),
) -> None:
    """Plant known anomalies in a copy of real history and say which were found. Changes nothing."""
    from anomaly.months import Month
    from pipelines.jobs.selftest import selftest as put_to_test

    refuse_parquet("selftest", form)
    shell = shell_of(context)
    services = shell.services()
    wanted = Month.parse(month)
    verdict = put_to_test(services, wanted, seed, incidents)
    if form is Format.table:
        title = f"planted in {month}, found by model {verdict.model.version}"
        show_found(shell, title, verdict)
    else:
        write_frame(verdict.by("kind", "size"), form)
    tell = shell.say if form is Format.table else shell.note
    said = remarks(verdict)
    threshold = services.settings.threshold
    if threshold.kind in {None, "budget"}:
        said.append(f"the budget is {threshold.false_flags_per_1000_user_months:g}")
    for line in said:
        tell(line)
    if page is not None:
        from pipelines.jobs.selftest_page import as_page

        text = as_page(wanted, verdict, said)
        output.whole_file(page, lambda file: file.write(text.encode()))
        shell.note(f"Written: {page}")


def show_found(shell: Shell, title: str, verdict: Verdict) -> None:
    """Found of planted: a line for each kind, a column for each size."""
    cells = {(row["kind"], row["size"]): row for row in records(verdict.by("kind", "size"))}
    sizes = sorted({size for _, size in cells})
    rows = []
    for row in records(verdict.by("kind")):
        each = [cells.get((row["kind"], size)) for size in sizes]
        rows.append([
            row["kind"], ratio(row), share(row["share"]), f"{row['median_rank']:.0f}",
            *("" if cell is None else ratio(cell) for cell in each),
        ])  # fmt: skip
    columns = ("kind", "found", "share", "median rank", *(f"size {size:g}" for size in sizes))
    output.show(shell, title, columns, rows)


def ratio(row: dict[str, Any]) -> str:
    """Found of planted."""
    return f"{row['found']}/{row['planted']}"


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def remarks(verdict: Verdict) -> list[str]:
    """What the table does not say."""
    found = f"{verdict.found} of {len(verdict.incidents)} found ({share(verdict.found_share)})"
    among = f"among {verdict.users} users, those with one rank with average precision"
    lines = [f"{found}; {among} {verdict.ap_users:.2f}"]
    if verdict.flagged_before:
        lines.append(
            f"{verdict.flagged_before} more lie where a flag stood already and are not counted"
        )
    lines.append(
        f"{verdict.untouched} untouched users: {verdict.false_flags} flags, "
        f"{verdict.false_rate:.1f} per 1,000 user-months, real incidents included"
    )
    return lines


def compare(
    context: typer.Context,
    versions: list[str] | None = typer.Argument(
        None, help="Two models; one is compared with the champion; none: champion and newest other."
    ),
    month: str = MONTH,
    seed: int = SEED,
    incidents: int = INCIDENTS,
    form: Format = FORM,
) -> None:
    """Which flags of a month another model would raise or drop, and which finds more. Changes nothing."""
    from anomaly.months import Month
    from pipelines.jobs.compare import compare_models

    refuse_parquet("models compare", form)
    if len(versions or ()) > 2:
        raise UsageError("models compare: name two models at most. See: anomaly models list")
    shell = shell_of(context)
    found = compare_models(shell.services(), Month.parse(month), versions or (), seed, incidents)
    title = f"{month}, {found.users} users: flags that stay, vanish or appear"
    figures = found.figures()
    if form is not Format.table:
        write_frame(found.changes, form)
        for name, first, second in figures:
            shell.note(f"{name}: {first} | {second}")
        shell.note(f"rank correlation of users' months: {found.rank_correlation:.3f}")
        return
    output.show(shell, f"two models on {month}", ("", "first", "second"), figures)
    shell.say(f"rank correlation of users' months: {found.rank_correlation:.3f}")
    rows = (
        (
            row["change"],
            row["user_id"][:40],
            f"{row['start']:%Y-%m-%d %H:%M}",
            f"{row['end']:%Y-%m-%d %H:%M}",
            row["metrics"],
            *(score(row[name]) if row[name] > 0 else "" for name in ("score", "other_score")),
        )
        for row in records(found.changes.head(SHOWN_CHANGES))
    )
    columns = ("change", "user", "start", "end", "metrics", "score", "the other's")
    output.show(shell, title, columns, rows)
    if len(found.changes) > SHOWN_CHANGES:
        left = len(found.changes) - SHOWN_CHANGES
        shell.say(f"{left} more: all of them with --format csv or json")


def refuse_parquet(command: str, form: Format) -> None:
    """Refuse the one format that a few lines do not need.

    Raises: UsageError.
    """
    if form is Format.parquet:
        raise UsageError(f"{command}: write table, csv or json.")


def write_frame(frame: pd.DataFrame, form: Format) -> None:
    """A data frame to standard output."""
    import pyarrow as pa

    output.write(pa.Table.from_pandas(frame, preserve_index=False), form, None)
