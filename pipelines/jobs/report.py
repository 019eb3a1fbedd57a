"""A month for a reader."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.months import Month
    from anomaly.records import Flag
    from anomaly.store import ModelRow, Run, UserMonthRow
    from pipelines.services import Services

SHOWN_FLAGS = 20
SHOWN_USERS = 20


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence, and a table."""

    title: str
    text: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def month_report(services: Services, month: Month) -> list[Section]:
    """What ran, what was found, the network against its twin, and what analysts said.

    Raises: UsageError if the month was not run.
    """
    from anomaly.store import FlagFilter

    store = services.store
    run = store.ledger.current(str(month))
    if run is None or run.state not in {"complete", "provisional"}:
        raise UsageError(f"{month}: was not run. Run it first: anomaly run --month {month}")
    flags = [row.flag for row in store.flags.select(FlagFilter(month=str(month)))]
    model = None if run.model_version is None else store.models.get(run.model_version)
    return [
        _ran(month, run),
        _found(flags),
        _ranked(store.flags.user_months(str(month))),
        _model(model),
        _judged(store.flags.precision()),
    ]


def as_markdown(sections: Sequence[Section]) -> str:
    """The report as Markdown."""
    parts = []
    for level, section in enumerate(sections):
        parts += [f"{'#' if level == 0 else '##'} {section.title}", "", section.text, ""]
        if section.rows:
            parts += [_line(section.columns), _line(["---"] * len(section.columns))]
            parts += [*map(_line, section.rows), ""]
    return "\n".join(parts)


def as_html(sections: Sequence[Section]) -> str:
    """The report as one HTML page that needs nothing else."""
    body = []
    for level, section in enumerate(sections):
        heading = "h1" if level == 0 else "h2"
        body.append(f"<{heading}>{escape(section.title)}</{heading}><p>{escape(section.text)}</p>")
        if section.rows:
            head = "".join(f"<th>{escape(name)}</th>" for name in section.columns)
            rows = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in section.rows
            )
            body.append(f"<table><tr>{head}</tr>{rows}</table>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(sections[0].title)}</title><style>body{{font:15px sans-serif;margin:2em}}"
        "td,th{text-align:left;padding:.2em .8em .2em 0;vertical-align:top}</style></head>"
        f"<body>{''.join(body)}</body></html>"
    )


def _ran(month: Month, run: Run) -> Section:
    skipped = ", ".join(f"{reason}: {count}" for reason, count in run.users_skipped.items())
    return Section(
        f"{month}",
        f"Run {run.id} is {run.state}: {run.rows_read:,} rows, {run.users_scored:,} users scored, "
        f"{run.flags} flags" + (f"; not scored: {skipped}" if skipped else "") + ". "
        f"Model {run.model_version}, configuration {run.configuration}, version {run.code_version}."
        + (f" {run.note}." if run.note else ""),
    )


def _found(flags: Sequence[Flag]) -> Section:
    rows = [
        (
            f"{flag.start:%Y-%m-%d %H:%M}",
            flag.user_id,
            flag.severity,
            f"{flag.score:.2f}",
            flag.explanation,
        )
        for flag in flags[:SHOWN_FLAGS]
    ]
    text = f"{len(flags)} flags" + (
        f", the highest {SHOWN_FLAGS}:" if len(flags) > SHOWN_FLAGS else "."
    )
    return Section(
        "What was found", text, ("start (UTC)", "user", "severity", "score", "what"), rows
    )


def _ranked(users: Sequence[UserMonthRow]) -> Section:
    ranked = [row for row in users if row.rank is not None]
    rows = [
        (
            str(row.rank),
            row.user_month.user_id,
            row.user_month.cohort,
            f"{row.user_month.score:.2f}",
            str(row.user_month.flags),
        )
        for row in ranked[:SHOWN_USERS]
    ]
    text = f"{len(ranked)} users by how far the month was from normal."
    return Section(
        "Whom to look at first", text, ("rank", "user", "cohort", "score", "flags"), rows
    )


def _model(model: ModelRow | None) -> Section:
    title = "The network and its twin"
    if model is None or model.validation_loss is None or model.twin_loss is None:
        return Section(title, "No figures are known of the model.")
    better = (
        "The network earned its keep"
        if model.validation_loss < model.twin_loss
        else "The twin did better"
    )
    return Section(
        title,
        f"{better}: loss on later history {model.validation_loss:.4f}, the statistical twin's "
        f"{model.twin_loss:.4f} (lower is better). Trained on {model.users} users, "
        f"{model.trained_from:%Y-%m-%d} to {model.trained_to:%Y-%m-%d}.",
    )


def _judged(precision: float | None) -> Section:
    text = (
        "No flag was labelled yet: anomaly flags label FLAG real|false|unsure."
        if precision is None
        else f"{precision:.0%} of the labelled flags were real."
    )
    return Section("What analysts said", text)


def _line(cells: Sequence[str]) -> str:
    cleaned = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(cleaned)} |"
