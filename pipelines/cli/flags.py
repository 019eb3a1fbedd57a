"""What analysts read: anomaly flags, users, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import UsageError
from anomaly.ports import FLAG_SORTS, PUBLISHED, USER_SORTS
from anomaly.wording import never_run, percent, score, share
from pipelines.cli import feedback, output
from pipelines.cli.arguments import one_of
from pipelines.cli.output import Format
from pipelines.cli.shell import shell_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from anomaly.store import ChangeRow, FlagFilter, UserMonthRow
    from pipelines.cli.shell import Shell

MONTH = typer.Option(None, "--month", help="Only this month: 2026-10.")
USER = typer.Option(None, "--user", help="Only this user.")
METRIC = typer.Option(None, "--metric", help="Only flags that name this metric.")
SEVERITY = typer.Option(None, "--severity", help="low, medium, high or critical.")
STATUS = typer.Option(None, "--status", help="open, acknowledged or closed.")
KIND = typer.Option(None, "--kind", help="burst, silence, shift, drift, new or combination.")
LABEL = typer.Option(None, "--label", help="Only flags with this verdict.")
ASSIGNEE = typer.Option(None, "--assignee", help="Only flags that this person looks at.")
SUPPRESSED = typer.Option(
    None, "--suppressed/--no-suppressed", help="Only those quieted by a suppression; without them."
)
LIMIT = typer.Option(None, "--limit", min=1, help="At most so many, the first by --sort.")
SORT = typer.Option(
    "-score",
    "--sort",
    help=f"{', '.join(FLAG_SORTS)}; - for the highest first.",
)
PERCENTILES = ("self_percentile", "peer_percentile", "all_percentile")
USER_FIGURES = ("rank", "risk", "score", "flags", "of own past", "of peers", "of all", "sure")
OUT = typer.Option(None, "--out", help="Write to this file instead of standard output.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Flags: list, show, export, label, note.")
    group.command("list")(list_flags)
    group.command()(show)
    group.command()(export)
    group.command()(changes)
    group.command()(feedback.label)
    group.command()(feedback.note)
    app.add_typer(group, name="flags")
    people = typer.Typer(no_args_is_help=True, help="Users of a month, ranked.")
    people.command("list")(list_users)
    people.callback()(_group)
    app.add_typer(people, name="users")
    app.command()(report)


def _group() -> None:
    """Users of a month, ranked by how far it was from normal."""


def list_flags(
    context: typer.Context,
    month: str | None = MONTH,
    user: str | None = USER,
    metric: str | None = METRIC,
    severity: str | None = SEVERITY,
    status: str | None = STATUS,
    kind: str | None = KIND,
    label: str | None = LABEL,
    assignee: str | None = ASSIGNEE,
    suppressed: bool | None = SUPPRESSED,
    limit: int | None = LIMIT,
    sort: str = SORT,
    form: Format = typer.Option(Format.table, "--format", help="How to write them."),
    out: Path | None = OUT,
) -> None:
    """Flags, the highest score first unless sorted otherwise."""
    filters = filters_of(
        month, user, metric, severity, status, limit, kind, label, assignee, suppressed, sort
    )
    shell = shell_of(context)
    flags = shell.services().store.flags
    if form is not Format.table:
        output.write(flags.arrow(filters), form, out)
        return
    _refuse_table_in_file(out)
    found = [row.flag for row in flags.select(filters)]
    if found:
        output.show_flags(shell, f"{len(found)} flags", found)
    elif month is None or not _never_ran(shell, month):
        shell.say(f"no flags{_asked_for(filters)}")


def export(
    context: typer.Context,
    month: str | None = MONTH,
    user: str | None = USER,
    metric: str | None = METRIC,
    severity: str | None = SEVERITY,
    status: str | None = STATUS,
    kind: str | None = KIND,
    label: str | None = LABEL,
    assignee: str | None = ASSIGNEE,
    suppressed: bool | None = SUPPRESSED,
    limit: int | None = typer.Option(
        None, "--limit", min=1, help="At most so many, the highest scores."
    ),
    form: Format = typer.Option(
        Format.csv, "--format", help="csv, json, parquet; ocsf, ecs, alertmanager."
    ),
    out: Path | None = OUT,
) -> None:
    """Flags with every column, for programs. The same data give the same bytes."""
    if form is Format.table:
        raise UsageError("flags export: write csv, json or parquet; a table is: flags list")
    filters = filters_of(
        month, user, metric, severity, status, limit, kind, label, assignee, suppressed
    )
    output.write(shell_of(context).services().store.flags.arrow(filters), form, out)


def show(context: typer.Context, flag_id: str = typer.Argument(help=feedback.FLAG_ID)) -> None:
    """Everything about one flag."""
    from dataclasses import asdict

    shell = shell_of(context)
    store = shell.services().store
    flag_id = store.flags.named(flag_id)
    row = store.flags.get(flag_id)
    facts = {
        **asdict(row.flag),
        "score": score(row.flag.score),
        **{name: percent(getattr(row.flag, name)) for name in PERCENTILES},
        "month": row.month,
        "status": row.status,
        "label": row.label,
        "assignee": row.assignee,
        "suppressed by": row.suppressed_by,
        "run": f"{row.run_id} ({row.run_state})",
        "model": row.model_version,
    }
    output.show(shell, row.flag.explanation, ("column", "value"), facts.items())
    said = store.feedback.said(flag_id)
    if said:
        output.show(
            shell,
            "what was said (times in UTC)",
            ("when", "who", "verdict", "status", "assignee", "note"),
            (
                (
                    f"{one.given_at:%Y-%m-%d %H:%M}",
                    one.author,
                    one.verdict,
                    one.status,
                    one.assignee,
                    one.note,
                )
                for one in said
            ),
        )


def changes(
    context: typer.Context,
    month: str | None = MONTH,
    run: int | None = typer.Option(None, "--run", help="Only what this run made different."),
    form: Format = typer.Option(Format.table, "--format", help="table, csv, json or parquet."),
    out: Path | None = OUT,
) -> None:
    """Flags that came, went or changed when a closed month was scored again, for late rows say."""
    from anomaly.months import Month

    shell = shell_of(context)
    wanted = None if month is None else str(Month.parse(month))
    rows = shell.services().store.changes.list(month=wanted, run_id=run)
    if form is Format.table:
        _refuse_table_in_file(out)
        columns = (
            "run", "kind", "flag", "user", "start", "end", "severity", "score", "was", "metrics",
        )  # fmt: skip
        values = (
            (
                row.run_id, row.kind, row.flag_id, row.user_id[:40], f"{row.start:%Y-%m-%d %H:%M}",
                f"{row.end:%Y-%m-%d %H:%M}", row.severity, score(row.score),
                None if row.earlier_score is None else score(row.earlier_score), row.metrics,
            )
            for row in rows
        )  # fmt: skip
        title = f"what became different, {len(rows)} (times in UTC)"
        output.show(shell, title, columns, values, figures=("score", "was"))
        return
    output.write(change_table(rows), form, out)


def change_table(rows: Sequence[ChangeRow]) -> pa.Table:
    """The same with every column, times as times also where there are no rows."""
    from dataclasses import asdict, fields

    import pyarrow as pa

    from anomaly.rows import TIME_TYPE
    from anomaly.store import ChangeRow

    kinds = {"run_id": pa.int64(), "earlier_run": pa.int64()}
    kinds |= dict.fromkeys(("start", "end", "earlier_start", "earlier_end"), TIME_TYPE)
    kinds |= dict.fromkeys(("score", "earlier_score"), pa.float64())
    schema = pa.schema([(one.name, kinds.get(one.name, pa.string())) for one in fields(ChangeRow)])
    return pa.Table.from_pylist([asdict(row) for row in rows], schema)


def list_users(
    context: typer.Context,
    month: str = typer.Option(..., "--month", help="2026-10."),
    limit: int | None = LIMIT,
    sort: str = typer.Option(
        "rank",
        "--sort",
        help=f"{', '.join(USER_SORTS)}; - for the highest first.",
    ),
    form: Format = typer.Option(Format.table, "--format", help="How to write them."),
    out: Path | None = OUT,
) -> None:
    """Users by how far the month was from normal unless sorted otherwise, then those not scored, with the reason."""
    from anomaly.months import Month

    shell = shell_of(context)
    rows = shell.services().store.flags.user_months(str(Month.parse(month)), limit=limit, sort=sort)
    columns = (
        "rank", "user_id", "cohort", "score", "flags", "worst_at", "metrics", "self_percentile",
        "peer_percentile", "all_percentile", "peer_count", "confidence", "skipped", "risk",
        "cohort_distance", "cohort_why",
    )  # fmt: skip
    if form is Format.table and not rows and _never_ran(shell, month):
        return
    values = [(row.rank, *(getattr(row.user_month, name) for name in columns[1:])) for row in rows]
    if form is Format.table:
        _refuse_table_in_file(out)
        head = (
            "rank", "user", "risk", "score", "flags", "worst at (UTC)", "metrics", "of own past",
            "of peers", "of all", "peers", "sure", "not scored",
        )  # fmt: skip
        title = f"{month}: by how far it was from normal"
        output.show(shell, title, head, map(_user_line, rows), figures=USER_FIGURES)
        return
    import pyarrow as pa

    records = [dict(zip(columns, row, strict=True)) for row in values]
    table = pa.table({name: [record[name] for record in records] for name in columns})
    output.write(table, form, out)


def _asked_for(filters: FlagFilter) -> str:
    """The filters as they were written, for whoever found nothing."""
    from dataclasses import fields

    words = []
    for name in (one.name for one in fields(filters) if one.name not in {"limit", "sort"}):
        value = getattr(filters, name)
        if isinstance(value, bool):
            words.append("--suppressed" if value else "--no-suppressed")
        elif value:
            words.append(f"--{name} {value}")
    return " with " + " ".join(words) if words else ""


def _never_ran(shell: Shell, month: str) -> bool:
    """Whether nothing of the month is published, and say so: that nothing is odd is another thing."""
    standing = shell.services().store.ledger.current(month)
    never = standing is None or standing.state not in PUBLISHED
    if never:
        shell.say(never_run(month))
    return never


def _user_line(row: UserMonthRow) -> tuple[object, ...]:
    """A user's month as the terminal shows it."""
    one = row.user_month
    if one.skipped is not None:
        return (None, one.user_id, *(None,) * 10, one.skipped)
    return (
        row.rank, one.user_id, None if one.risk is None else share(one.risk), score(one.score),
        one.flags, "-" if one.worst_at is None else f"{one.worst_at:%Y-%m-%d %H:%M}",
        one.metrics.replace(";", ", "),
        percent(one.self_percentile) if one.confidence > 0 else None,  # a new user has no past
        percent(one.peer_percentile), percent(one.all_percentile), one.cohort, share(one.confidence), None,
    )  # fmt: skip


def report(
    context: typer.Context,
    month: str = typer.Option(..., "--month", help="2026-10."),
    form: str = typer.Option("md", "--format", help="md or html."),
    out: Path | None = OUT,
) -> None:
    """The month for a reader: what ran, what was found, the network against its twin."""
    from anomaly.months import Month
    from pipelines.jobs.report import as_html, as_markdown, month_report

    one_of("--format", form, ("md", "html"))
    shell = shell_of(context)
    facts = month_report(shell.services(), Month.parse(month))
    text = as_html(facts) if form == "html" else as_markdown(facts)
    if out is None:
        typer.echo(text)
    else:
        output.whole_file(out, lambda file: file.write(text.encode()))


def filters_of(
    month: str | None,
    user: str | None,
    metric: str | None,
    severity: str | None,
    status: str | None,
    limit: int | None,
    kind: str | None = None,
    label: str | None = None,
    assignee: str | None = None,
    suppressed: bool | None = None,
    sort: str = "-score",
) -> FlagFilter:
    """The filters, checked.

    Raises: UsageError for a word that is none.
    """
    from anomaly.feedback import verdict_of
    from anomaly.months import Month
    from anomaly.records import KINDS, SEVERITIES, STATUSES
    from anomaly.store import FlagFilter

    return FlagFilter(
        month=None if month is None else str(Month.parse(month)),
        user=user,
        metric=metric,
        severity=one_of("--severity", severity, SEVERITIES),
        status=one_of("--status", status, STATUSES),
        kind=one_of("--kind", kind, KINDS),
        label=None if label is None else verdict_of(label),
        assignee=assignee,
        suppressed=suppressed,
        limit=limit,
        sort=sort,
    )


def _refuse_table_in_file(out: Path | None) -> None:
    if out is not None:
        raise UsageError("--out: a table is for the terminal. Add --format csv, json or parquet.")
