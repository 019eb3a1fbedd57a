"""What analysts say: anomaly flags label and note, and anomaly suppressions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomaly.exceptions import ConflictError, SourceError, UsageError
from pipelines.cli import output
from pipelines.cli.arguments import instant_of
from pipelines.cli.events import tell_unknown
from pipelines.cli.output import Format
from pipelines.cli.shell import shell_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.feedback import Label
    from anomaly.store import Consequence, SuppressionRow

FLAG_ID = "As flags list gives it, or its first six digits or more."
AUTHOR = typer.Option(None, "--author", help="Who says so. Default: you.")
COLUMNS = (
    "id", "whom", "metric", "kind", "direction", "asks", "start", "end", "quiets", "author",
    "reason", "flag_id", "revoked_at", "revoked_by",
)  # fmt: skip
SHOWN = ("id", "whom", "metric", "kind", "direction", "asks", "end", "quiets", "author", "reason")


def register(app: typer.Typer) -> None:
    """Add the commands of suppressions; those of flags are added with the others of flags."""
    group = typer.Typer(
        no_args_is_help=True, help="What asks for more evidence of some flags, until when, and why."
    )
    group.command("list")(list_suppressions)
    group.command()(add)
    group.command()(revoke)
    group.command()(refit)
    app.add_typer(group, name="suppressions")


def label(
    context: typer.Context,
    flag_id: str | None = typer.Argument(None, help=FLAG_ID),
    verdict: str | None = typer.Argument(None, help="true, false-alarm, expected or new-normal."),
    file: Path | None = typer.Option(
        None, "--from", help="CSV with flag_id, verdict and, if wanted, note, author, scope, until."
    ),
    note: str = typer.Option("", "--note", help="Why."),
    author: str | None = AUTHOR,
    scope: str = typer.Option(
        "user",
        "--for",
        help="Whose similar flags need more evidence after a false alarm: user, cohort or none.",
    ),
    until: str | None = typer.Option(None, "--until", help="When that ends: 2026-12-31."),
    replace: bool = typer.Option(False, "--replace", help="Overrule the verdict that stands."),
) -> None:
    """Say what flags were worth; baselines, later flags and the measured precision follow."""
    from anomaly.feedback import Label, Terms, verdict_of
    from anomaly.labels import read_labels
    from anomaly.months import parse_duration

    shell = shell_of(context)
    services = shell.services()
    who = author or shell.person
    labels: Sequence[Label]
    if file is not None:
        if flag_id is not None:
            raise UsageError("label: name a flag and a verdict, or --from FILE, not both.")
        labels = read_labels(_text_of(file), file.name, who)
    elif flag_id is None or verdict is None:
        raise UsageError("label: name a flag and a verdict, or --from FILE. See: flags list")
    else:
        flag_id = services.store.flags.named(flag_id)
        standing = services.store.flags.get(flag_id).label if replace else None
        ends = instant_of("--until", until, services.timezone)
        labels = [Label(flag_id, verdict_of(verdict), who, note, scope, ends, standing)]
    given = services.settings.feedback
    terms = Terms(given.margin, parse_duration(given.keep))
    try:
        done = services.store.feedback.label(labels, terms, services.clock())
    except ConflictError as error:
        how = "with --replace" if file is None else "in a column replacing"
        raise ConflictError(f"{error} Say so {how}.") from error
    for one in done if len(done) == 1 else ():
        shell.say(_told(one))
    if len(done) > 1:
        counts = {one.verdict: 0 for one in done}
        for one in done:
            counts[one.verdict] += 1
        listed = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        shell.say(f"{len(done)} flags labelled: {listed}")


def note(
    context: typer.Context,
    flag_id: str = typer.Argument(help=FLAG_ID),
    text: str = typer.Argument("", help="A comment."),
    status: str | None = typer.Option(None, "--status", help="open, acknowledged or closed."),
    assign: str | None = typer.Option(None, "--assign", help="Who looks at it; '' for nobody."),
    author: str | None = AUTHOR,
) -> None:
    """Comment on a flag, set its status, or hand it to somebody; who said what stays."""
    from anomaly.feedback import Remark

    shell = shell_of(context)
    services = shell.services()
    flag_id = services.store.flags.named(flag_id)
    remark = Remark(flag_id, author or shell.person, text, status, assign)
    services.store.feedback.remark(remark, services.clock())
    row = services.store.flags.get(flag_id)
    shell.say(f"flag {flag_id}: {row.status}, {row.assignee or 'nobody'} looks at it")


def list_suppressions(
    context: typer.Context,
    revoked: bool = typer.Option(False, "--revoked", help="Revoked ones too."),
    form: Format = typer.Option(Format.table, "--format", help="How to write them."),
    out: Path | None = typer.Option(None, "--out", help="Write to this file."),
) -> None:
    """What asks for more evidence, the newest first."""
    shell = shell_of(context)
    rows = shell.services().store.suppressions.list(revoked=revoked)
    records = [_record(row) for row in rows]
    if form is Format.table:
        if out is not None:
            raise UsageError("--out: a table is for the terminal. Add --format csv or json.")
        names = (*SHOWN, "revoked_at") if revoked else SHOWN
        output.show(
            shell, "suppressions", names, ([record[name] for name in names] for record in records)
        )
        return
    import pyarrow as pa

    table = pa.table({name: [record[name] for record in records] for name in COLUMNS})
    output.write(table, form, out)


def add(
    context: typer.Context,
    user: str | None = typer.Option(None, "--user", help="Of this user alone."),
    cohort: str | None = typer.Option(None, "--cohort", help="Of this cohort alone."),
    metric: str | None = typer.Option(None, "--metric", help="Where this metric leads."),
    kind: str | None = typer.Option(None, "--kind", help="burst, silence, shift, drift ..."),
    direction: str | None = typer.Option(None, "--direction", help="up, down or both."),
    least_score: float | None = typer.Option(None, "--least-score", help="Show from here on."),
    least_effect: float | None = typer.Option(
        None, "--least-effect", help="Show from this departure from the expected on, in its unit."
    ),
    since: str | None = typer.Option(None, "--from", help="Flags from this day on. Default: all."),
    until: str | None = typer.Option(None, "--until", help="Flags before this day."),
    reason: str = typer.Option(..., "--reason", help="Why; who reads the list asks."),
    author: str | None = AUTHOR,
) -> None:
    """Ask for more evidence of some flags; without a least score or effect they are ignored.

    The flags stay, marked as suppressed; scores never change.
    """
    import datetime as dt

    from anomaly.feedback import Suppression
    from pipelines.jobs.events import unknown_to

    if not (user or cohort or metric or kind or least_score or least_effect):
        raise UsageError(
            "suppressions add: that would silence everything. Name a --user, --cohort, --metric or "
            "--kind, or give --least-score or --least-effect."
        )
    shell = shell_of(context)
    services = shell.services()
    begins = instant_of("--from", since, services.timezone) or dt.datetime.min.replace(
        year=1970, tzinfo=dt.UTC
    )
    ends = instant_of("--until", until, services.timezone)
    if since is None and ends is not None and ends <= services.clock():
        raise UsageError(
            f"--until {until} lies in the past, so nothing to come would be quieted. Give a later day, or "
            "--from too for flags of a time that is over."
        )
    suppression = Suppression(
        start=begins,
        end=ends,
        reason=reason,
        author=author or shell.person,
        user_id=user,
        cohort=cohort,
        metric=metric,
        kind=kind,
        direction=direction,
        least_score=least_score,
        least_effect=least_effect,
    )
    number, quieted = services.store.suppressions.add(suppression, services.clock())
    shell.say(
        f"suppression {number}: {suppression.asks}; quiets {quieted} flags now. "
        f"Undo: anomaly suppressions revoke {number}"
    )
    undo = f"revoke it: anomaly suppressions revoke {number}"
    tell_unknown(shell, "suppressions add", unknown_to(services, suppression), undo)


def revoke(
    context: typer.Context,
    number: int = typer.Argument(help="As suppressions list gives it."),
    author: str | None = AUTHOR,
) -> None:
    """Take a suppression back; the flags it quieted show again."""
    shell = shell_of(context)
    services = shell.services()
    shown = services.store.suppressions.revoke(number, author or shell.person, services.clock())
    shell.say(f"suppression {number} is revoked; {shown} flags show again")


def refit(
    context: typer.Context,
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what it would ask for."),
) -> None:
    """Fit the threshold to what was said of flags, within the budget of false flags."""
    from pipelines.jobs.refit import planned, refit_threshold

    shell = shell_of(context)
    services = shell.services()
    found = planned(services)
    output.show(
        shell,
        "measured by verdicts",
        ("leading metric", "kind", "direction", "judged", "false", "least score"),
        (
            (one.metric, one.kind, one.direction, one.judged, one.wrong, one.least_score)
            for one in found.groups
        ),
    )
    shell.say(found.words)
    if not dry_run:
        come, gone = refit_threshold(services)
        shell.say(
            f"{len(come)} suppressions entered, {gone} revoked. See: anomaly suppressions list"
        )


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: cannot be read ({error}).") from error


def _told(done: Consequence) -> str:
    text = f"flag {done.flag_id}: {done.verdict.replace('_', ' ')}"
    if done.suppression is not None:
        text += f"; suppression {done.suppression} asks for more evidence of similar flags"
    if done.quieted:
        text += f" ({abs(done.quieted)} {'more' if done.quieted > 0 else 'fewer'} quieted)"
    if done.baseline is not None:
        text += f"; the baseline starts afresh on {done.baseline:%Y-%m-%d %H:%M} UTC"
    return text


def _record(row: SuppressionRow) -> dict[str, object]:
    one = row.suppression
    return {
        "id": row.id, "whom": one.whom, "metric": one.metric, "kind": one.kind,
        "direction": one.direction, "asks": one.asks, "start": one.start, "end": one.end,
        "quiets": row.quiets, "author": one.author, "reason": one.reason, "flag_id": one.flag_id,
        "revoked_at": row.revoked_at, "revoked_by": row.revoked_by,
    }  # fmt: skip
