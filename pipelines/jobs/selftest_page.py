"""What a self-test found, as a page: a plot of the share found by kind and size, and the table behind it."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from anomaly.planting import UNITS
from anomaly.wording import share
from pipelines.jobs.report import Section, as_html

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.months import Month
    from pipelines.jobs.selftest import Verdict

LABEL, CELL, HEIGHT, GAP = 104, 74, 44, 3  # of the plot, in its own units
FONT = "font-family='system-ui,sans-serif' font-size='14'"
DARK = 0.7  # the share from which letters are white

Cell = tuple[int, int]  # found, planted


def as_page(month: Month, verdict: Verdict, remarks: Sequence[str]) -> str:
    """One HTML page that needs nothing else. remarks: sentences that the table does not say."""
    cells = {
        (row["kind"], row["size"]): (row["found"], row["planted"])
        for row in verdict.by("kind", "size").to_dict("records")
    }
    rows = [
        (row["kind"], UNITS[row["kind"]], f"{row['found']}/{row['planted']}", share(row["share"]),
         f"{row['median_rank']:.0f}")
        for row in verdict.by("kind").to_dict("records")
    ]  # fmt: skip
    return as_html([
        Section(
            f"{month}: what would have been found",
            "Anomalies of known kinds and sizes were planted into a copy of this month, at most one in a "
            f"user, and scored by model {verdict.model.version}. {'. '.join(remarks)}.",
        ),
        Section(
            "Found by kind and size",
            "The darker, the larger the share that a flag overlaps; found/planted in each cell. What a size "
            "counts differs from kind to kind: see the table.",
            figure=heat_map(cells),
        ),
        Section(
            "By kind",
            "Median rank: of the planted user's month among all, 1 is the highest.",
            ("kind", "what a size counts", "found", "share", "median rank"),
            rows,
        ),
    ])  # fmt: skip


def heat_map(cells: Mapping[tuple[str, float], Cell]) -> str:
    """An SVG, kinds down and sizes across; cells: found and planted by kind and size."""
    kinds = sorted({kind for kind, _ in cells})
    sizes = sorted({size for _, size in cells})
    width, height = LABEL + CELL * len(sizes), HEIGHT * len(kinds) + 28
    drawn = [
        f"<text x='{LABEL + CELL * (column + 0.5)}' y='18' text-anchor='middle' fill='currentColor'>"
        f"size {size:g}</text>"
        for column, size in enumerate(sizes)
    ]
    for row, kind in enumerate(kinds):
        top = 28 + HEIGHT * row
        drawn.append(f"<text x='0' y='{top + 27}' fill='currentColor'>{escape(kind)}</text>")
        for column, size in enumerate(sizes):
            if (kind, size) in cells:
                drawn.append(_cell(LABEL + CELL * column, top, cells[kind, size]))
    found, planted = (sum(cell[which] for cell in cells.values()) for which in (0, 1))
    said = f"Share found by kind and size: {found} of {planted} in all"
    return (
        f"<svg role='img' aria-label='{said}' viewBox='0 0 {width} {height}' {FONT} "
        f"style='width:100%;max-width:{width * 1.5}px'>{''.join(drawn)}</svg>"
    )


def _cell(left: int, top: int, cell: Cell) -> str:
    found, planted = cell
    part = found / planted
    light = 94 - 62 * part
    ink = "#fff" if part >= DARK else "#111"
    return (
        f"<rect x='{left + GAP}' y='{top + GAP}' width='{CELL - 2 * GAP}' height='{HEIGHT - 2 * GAP}' "
        f"rx='4' fill='hsl(205 65% {light:.0f}%)'><title>{share(part)}</title></rect>"
        f"<text x='{left + CELL / 2}' y='{top + 27}' text-anchor='middle' fill='{ink}'>"
        f"{found}/{planted}</text>"
    )
