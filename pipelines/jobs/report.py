"""A month for a reader: one page of Markdown or HTML that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from anomaly.calibration_report import DEPTHS, WITHIN
from anomaly.exceptions import ModelError, UsageError
from anomaly.ports import PUBLISHED
from anomaly.trial import better
from anomaly.wording import never_run, score, share
from pipelines.jobs.beside import beside
from pipelines.jobs.train import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.calibration_report import Calibration
    from anomaly.engine import Model
    from anomaly.months import Month
    from anomaly.records import Flag
    from anomaly.store import FlagRow, ModelRow, Run, UserMonthRow
    from anomaly.trial import Showing
    from pipelines.jobs.beside import Beside
    from pipelines.services import Services

SHOWN_FLAGS = 20
SHOWN_USERS = 20
LONG = 60  # letters in a last cell that needs room on a phone
SKIPPED = {
    "no_rows": "no rows in the month",
    "not_selected": "not asked for",
    "too_short": "too short a history",
}
GROUPS = ("all", "metric", "cohort")  # of the calibration table; hours are on the model's page
SIDES = {"upper": "too much", "lower": "too little"}
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:0 auto;padding:1.5rem;overflow-wrap:anywhere}
h1{font-size:1.7rem}h2{font-size:1.25rem;margin-top:2.2rem}p{max-width:48rem}
.table{overflow-x:auto}.table:focus-visible{outline:2px solid}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.35rem .9rem .35rem 0;border-bottom:1px solid #8884}
th,td{overflow-wrap:normal;white-space:nowrap}.long td:last-child{white-space:normal}
@media(max-width:640px){body{padding:1rem}.long thead{display:none}.long tr{display:block;padding:.5rem 0;
border-bottom:1px solid #8884}.long td{display:inline-block;border:0;padding:0 .8rem 0 0;white-space:normal}
.long td:last-child{display:block}}
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence, and a table or a figure. figure: SVG, for the page alone."""

    title: str
    text: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    figure: str = ""


def month_report(services: Services, month: Month) -> list[Section]:
    """What ran, what was found, the network against its twin, and what analysts said.

    Raises: UsageError if the month was not run.
    """
    from anomaly.store import FlagFilter

    store = services.store
    run = store.ledger.current(str(month))
    if run is None or run.state not in PUBLISHED:
        raise UsageError(never_run(month))
    rows = store.flags.select(FlagFilter(month=str(month)))
    flags = [row.flag for row in rows if row.suppressed_by is None]
    row = None if run.model_version is None else store.models.get(run.model_version)
    model = None if row is None else _readable(services, row)
    return [
        _ran(month, run),
        _counted(run),
        _found(flags),
        _ranked(store.flags.user_months(str(month))),
        _compared(row, beside(services, month, run)),
        _true(None if model is None else model.calibration),
        _families(row),
        _judged(store.feedback.verdicts(str(month)), store.feedback.precision(), rows),
    ]


def _readable(services: Services, row: ModelRow) -> Model | None:
    """The model, unless its files are lost."""
    try:
        return load_model(services, row)
    except ModelError:
        return None


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
        title = escape(section.title)
        body.append(f"<{heading}>{title}</{heading}><p>{escape(section.text)}</p>")
        body.append(section.figure)
        if section.rows:
            head = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.columns)
            rows = "".join(
                "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
                for row in section.rows
            )
            long = " long" if any(len(row[-1]) > LONG for row in section.rows) else ""
            body.append(
                f'<div class="table{long}" tabindex="0" role="region" aria-label="{title}">'
                f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(sections[0].title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>"
    )


def _ran(month: Month, run: Run) -> Section:
    return Section(
        f"{month}",
        f"Run {run.id} is {run.state}: {run.rows_read:,} rows, {run.flags:,} flags. "
        f"Model {run.model_version}, configuration {run.configuration}, version {run.code_version}."
        + (f" {run.note}." if run.note else ""),
    )


def _counted(run: Run) -> Section:
    total = run.users_scored + sum(run.users_skipped.values())
    rows = [("scored", f"{run.users_scored:,}")]
    rows += [
        (f"not scored: {SKIPPED.get(reason, reason)}", f"{count:,}")
        for reason, count in sorted(run.users_skipped.items(), key=lambda one: (-one[1], one[0]))
    ]
    text = f"{run.users_scored:,} of {total:,} users were scored."
    return Section("Who was scored", text, ("users", "how many"), rows)


def _found(flags: Sequence[Flag]) -> Section:
    rows = [
        (
            f"{flag.start:%Y-%m-%d %H:%M}",
            flag.user_id,
            flag.severity,
            score(flag.score),
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
            "" if row.user_month.risk is None else share(row.user_month.risk),
            score(row.user_month.score),
            str(row.user_month.flags),
        )
        for row in ranked[:SHOWN_USERS]
    ]
    text = f"{len(ranked)} users by how far the month was from normal."
    return Section(
        "Whom to look at first", text, ("rank", "user", "cohort", "risk", "score", "flags"), rows
    )


def _compared(row: ModelRow | None, found: Beside) -> Section:
    title = "The network and its twin"
    chosen = "" if row is None or not row.note else f" When it was trained: {row.note}."
    if found.network is None or found.twin is None:
        return Section(
            title,
            f"They cannot be compared on this month: {str(found.why_not).rstrip('.')}.{chosen}",
        )
    users = found.network.users
    text = (
        f"{better(found.network, found.twin)} Both read the month of {users} users once as it was and "
        f"once with incidents planted into some; the likelihood is that of each value by itself.{chosen}"
    )
    columns = ("on this month", *(one.name for one in (found.network, found.twin)))
    rows = [
        (
            "nats per value, more is better",
            *map(_nats, (found.network, found.twin)),
        ),
        ("planted incidents found", *map(_hits, (found.network, found.twin))),
        ("flags without them", str(found.network.flags), str(found.twin.flags)),
    ]
    return Section(title, text, columns, rows)


def _nats(one: Showing) -> str:
    return "it reconstructs" if one.likelihood is None else f"{one.likelihood:.4f}"


def _hits(one: Showing) -> str:
    found = "" if one.share is None else f" ({share(one.share)})"
    return f"{one.found} of {one.planted}{found}"


def _true(found: Calibration | None) -> Section:
    title = "Are its chances true?"
    if found is None or not found.groups:
        return Section(title, "That was not measured, or the model's files are lost.")
    lines: dict[tuple[str, str, str], list[str]] = {}
    for row in found.rows():
        if row.kind in GROUPS and row.side in SIDES:
            cell = f"{row.ratio:.2f}{' off' if row.off else ''}" if row.enough else "too few"
            lines.setdefault((row.kind, row.group, row.side), []).append(cell)
    rows = [
        ("all" if kind == "all" else f"{kind} {group}", SIDES[side], *cells)
        for (kind, group, side), cells in lines.items()
    ]
    text = (
        f"Observed over promised, on history that the measure had not seen: 1 is true, off is certainly "
        f"beyond a factor of {WITHIN}. The calibration error is {found.error:.2f}, a factor of "
        f"{10**found.error:.2f} for the worst group."
    )
    columns = ("group", "side", *(f"1 in {1 / depth:,.0f}" for depth in DEPTHS))
    return Section(title, text, columns, rows)


def _families(row: ModelRow | None) -> Section:
    title = "What is forecast of each metric"
    if row is None or not row.families:
        return Section(title, "The registry does not know the likelihoods of this model.")
    text = (
        f"Trained on {row.users:,} users, {row.trained_from:%Y-%m-%d} to {row.trained_to:%Y-%m-%d}; "
        "the likelihood of each metric:"
    )
    rows = [(metric, family.replace("_", " ")) for metric, family in row.families.items()]
    return Section(title, text, ("metric", "likelihood"), rows)


def _judged(
    verdicts: Mapping[str, int], precision: float | None, rows: Sequence[FlagRow]
) -> Section:
    quieted = sum(row.suppressed_by is not None for row in rows)
    words = []
    if precision is None:
        words.append(
            "No flag was labelled yet: anomaly flags label FLAG true|false-alarm|expected|new-normal."
        )
    else:
        words.append(f"{share(precision)} of all labelled flags told of a real change.")
    if quieted:
        words.append(
            f"{quieted} flags of this month are suppressed and not listed above: anomaly flags list "
            "--suppressed; why: anomaly suppressions list."
        )
    lines = [(verdict.replace("_", " "), str(count)) for verdict, count in verdicts.items()]
    return Section("What analysts said", " ".join(words), ("verdict", "flags of this month"), lines)


def _line(cells: Sequence[str]) -> str:
    cleaned = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(cleaned)} |"
