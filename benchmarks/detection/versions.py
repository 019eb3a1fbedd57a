"""Names of the code that made a result: comments, docstrings and formatting change none."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

import anomaly

PACKAGE = Path(anomaly.__file__).parent
HERE = Path(__file__).parent
# Of the package, what detection does not run, and what it runs and no result depends on.
APART = (
    "audit.py", "calibration_report.py", "difference.py", "fallback.py", "feedback.py", "formats.py",
    "handover.py", "heatmap.py", "labels.py", "notify", "ports.py", "refit.py", "secrecy.py", "simulation",
    "sources", "store", "telemetry", "web", "wording.py",
)  # fmt: skip
ENGINE, SIMULATION, BASELINES, JUDGE = "engine", "simulation", "baselines", "judge"
STRANGERS = "strangers"


@cache
def code_version(what: str) -> str:
    """A hash of the engine's, a simulation's, the baselines' or the judge's code."""
    files = {
        ENGINE: [
            file
            for file in PACKAGE.rglob("*.py")
            if file.relative_to(PACKAGE).parts[0] not in APART
        ],
        SIMULATION: [
            file for file in (PACKAGE / "simulation").glob("*.py") if file.name != "judge.py"
        ],
        STRANGERS: list((HERE / "strangers").glob("*.py")),
        BASELINES: [HERE / "baselines.py", HERE / "layout.py"],
        JUDGE: [HERE / "judging.py", PACKAGE / "simulation" / "judge.py"],
    }[what]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + meaning(file.read_text(encoding="utf-8")))
    return digest.hexdigest()[:12]


def meaning(source: str) -> bytes:
    """What a module says to the machine: its syntax tree without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[0] = ast.Pass()
    return ast.dump(tree).encode()


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
