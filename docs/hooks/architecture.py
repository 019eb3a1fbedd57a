"""Draws docs/figures/architecture.svg from what imports what: python docs/hooks/architecture.py"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIGURE = ROOT / "docs" / "figures" / "architecture.svg"
ADAPTERS = ("sources", "store", "web", "notify", "telemetry")
WIDTH, BOX, HEIGHT, GAP = 900, 150, 56, 30
INK = "#47597a"
ARROW = (
    '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    f'<path d="M0,0 L9,4 L0,8 z" fill="{INK}"/></marker></defs>'
)
STYLE = 'font-family="sans-serif" font-size="15" text-anchor="middle"'


def part_of(module: str) -> str | None:
    """The box that a module belongs to; None for other people's packages."""
    first, _, rest = module.partition(".")
    if first == "pipelines":
        return "pipelines"
    if first != "anomaly":
        return None
    adapter = rest.partition(".")[0]
    return adapter if adapter in ADAPTERS else "core"


def imported(file: Path) -> set[str]:
    """Modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def edges() -> set[tuple[str, str]]:
    """Which box imports from which other."""
    found = set()
    for top in ("anomaly", "pipelines"):
        for file in sorted((ROOT / top).rglob("*.py")):
            here = part_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for module in imported(file):
                there = part_of(module)
                if here and there and here != there:
                    found.add((here, there))
    return found


def drawing(arrows: set[tuple[str, str]]) -> str:
    """The picture as SVG: a row for pipelines, one for the adapters there are, one for the core."""
    boxes = {box for arrow in arrows for box in arrow}
    row = [name for name in ADAPTERS if name in boxes]
    left = (WIDTH - len(row) * BOX - (len(row) - 1) * GAP) // 2
    middle = {name: left + place * (BOX + GAP) + BOX // 2 for place, name in enumerate(row)}
    tops = {"pipelines": 20, "core": 320} | dict.fromkeys(row, 170)
    wide = {"pipelines": WIDTH - 40, "core": WIDTH - 40} | dict.fromkeys(row, BOX)
    centre = {"pipelines": WIDTH // 2, "core": WIDTH // 2} | middle
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 396" {STYLE}>',
        ARROW,
        f'<rect width="{WIDTH}" height="396" fill="#fff"/>',
    ]
    for here, there in sorted(arrows):
        x = middle.get(here, middle.get(there, 28))
        parts.append(
            f'<line x1="{x}" y1="{tops[here] + HEIGHT}" x2="{x}" y2="{tops[there] - 2}" '
            f'stroke="{INK}" stroke-width="1.5" marker-end="url(#head)"><title>{here} imports {there}</title></line>'
        )
    for name in ("pipelines", *row, "core"):
        x = centre[name] - wide[name] // 2
        parts.append(
            f'<rect x="{x}" y="{tops[name]}" width="{wide[name]}" height="{HEIGHT}" rx="6" '
            f'fill="#eef2f9" stroke="{INK}"/>'
            f'<text x="{centre[name]}" y="{tops[name] + 34}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    FIGURE.write_text(drawing(edges()), encoding="utf-8")
