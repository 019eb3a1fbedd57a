"""Figures as Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.detection.judging import MEASURES, Measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.detection.arms import Arm
    from benchmarks.detection.sets import BenchmarkSet

BEGIN = "<!-- written by hand from here: the command keeps it -->"
END = "<!-- written by hand up to here -->"
BY_HAND = f"""{BEGIN}

## What did not work, and why

Nothing has been written here yet.

{END}
"""
ABOUT = """\
# How well anomalies are found

Made by `python -m benchmarks.detection`; every figure comes from it. One default configuration for all sets.
Everything is learnt, and every threshold fixed, on what comes before the scored part. No point adjustment: an anomaly
is found if a flag overlaps it, and a flag that overlaps none is false. Labelled sets are scored by the `evaluate.py`
that lies beside them, all series of a set in one list with one threshold. The product's scores are judged as they come,
steps without rows among them. A part that an arm refuses counts with scores of 0 and no flags.

Baselines come from numpy and scikit-learn, with one setting for all sets; their threshold is a Gumbel law fitted to
block maxima of the last quarter of history, which they were not fitted to (20 flags per 1,000 user-months, or,
with fewer than 20 users, one in 10,000 steps).
"""


@dataclass(frozen=True)
class Table:
    """The figures of arms on one set; note: which part of it."""

    of: BenchmarkSet
    note: str
    rows: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Circumstances:
    """What the figures depend on besides the code: lines for a reader."""

    lines: tuple[str, ...]


def page(
    tables: Sequence[Table], arms: Sequence[Arm], circumstances: Circumstances, agreed: Sequence[str],
    skipped: Mapping[str, str], by_hand: str = BY_HAND,
) -> str:  # fmt: skip
    """The whole page. agreed: lines on how seeds agree; skipped: arms that were not run, and why."""
    parts = [ABOUT, headline([table for table in tables if not table.note])]
    if agreed:
        parts.append("## Seeds of training\n\n" + "\n".join(agreed) + "\n")
    parts += [section(table, arms) for table in tables]
    parts.append(_arms(arms, skipped))
    parts.append(by_hand)
    lines = "\n".join(f"- {line}" for line in circumstances.lines)
    parts.append(f"## Made how\n\n{lines}\n")
    return "\n".join(parts)


def kept_by_hand(text: str) -> str:
    """The part of an earlier page that was written by hand."""
    if BEGIN not in text or END not in text:
        return BY_HAND
    return BEGIN + text.split(BEGIN, 1)[1].split(END, 1)[0] + END + "\n"


def headline(tables: Sequence[Table]) -> str:
    """The product beside the best baseline of each figure; worlds: mean and deviation. A rate of
    false alarms, which any method can lower by flagging less, stands alone.
    """
    lines = [
        "## Headline\n",
        "| set | figure | anomaly | best baseline | which | ours / theirs |",
        "|---|---|---|---|---|---|",
    ]
    for table in tables:
        ours = table.rows.get("default", {})
        rivals = {name: row for name, row in table.rows.items() if row["group"] == "baseline"}
        for measure in MEASURES[table.of.name]:
            if measure.headline:
                best = _best(rivals, measure) if measure.better else ""
                theirs = rivals.get(best, {})
                ratio = _ratio(ours.get(measure.key), theirs.get(measure.key))
                lines.append(
                    f"| {table.of.title} | {measure.heading} | {shown(ours, measure.key)} "
                    f"| {shown(theirs, measure.key)} | {best or '-'} | {ratio} |"
                )
    return "\n".join(lines) + "\n"


def _best(rows: Mapping[str, dict[str, Any]], measure: Measure) -> str:
    """The row with the highest figure, '' where none has it."""
    known = {name: float(row.get(measure.key, math.nan)) for name, row in rows.items()}
    known = {name: value for name, value in known.items() if not math.isnan(value)}
    return max(known, key=known.__getitem__) if known else ""


def _ratio(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.2f}" if ours is not None and theirs else "-"


def section(table: Table, arms: Sequence[Arm]) -> str:
    """All arms on one set."""
    measures = MEASURES[table.of.name]
    heads = [measure.heading for measure in measures]
    lines = [
        f"## {table.of.title}{table.note}\n",
        "| arm | " + " | ".join(heads) + " | CPU s | wall s | parts |",
        "|---" * (len(heads) + 4) + "|",
    ]
    for arm in arms:
        row = table.rows.get(arm.name)
        if row is not None:
            cells = [shown(row, measure.key) for measure in measures]
            cells += [_seconds(row["cpu"]), _seconds(row["wall"]), _parts(row)]
            lines.append(f"| {arm.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def shown(row: Mapping[str, Any], key: str) -> str:
    """A figure, with its deviation where there is one."""
    value = row.get(key, math.nan)
    if math.isnan(value):
        return "-"
    deviation = row.get(f"{key}_sd")
    return _number(value) + (f" ± {_number(deviation)}" if deviation is not None else "")


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _parts(row: Mapping[str, Any]) -> str:
    refused = len(row["refused"])
    return f"{row['parts']}, {refused} refused" if refused else f"{row['parts']}"


def _arms(arms: Sequence[Arm], skipped: Mapping[str, str]) -> str:
    """What each arm is, and why some were not run."""
    lines = ["## Arms\n", "| arm | group | what it is |", "|---|---|---|"]
    for arm in arms:
        reason = f"; not run: {_cell(skipped[arm.name])}" if arm.name in skipped else ""
        lines.append(f"| {arm.name} | {arm.group} | {_cell(arm.what)}{reason} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
