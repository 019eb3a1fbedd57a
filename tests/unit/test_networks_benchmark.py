"""The command that shows what networks remember still runs and still draws."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # it trains networks

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)  # a minute of one processor: more where others are at work
def test_a_quick_look_prints_its_tables_and_draws_its_figures(tmp_path):
    ran = subprocess.run(
        [sys.executable, "benchmarks/networks.py", "--quick", "--figures", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2_000:]
    names = {"networks-memory.png", "networks-clipping.png", "networks-truncation.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for told in (
        "Gradient of the last word",
        "Right answers",
        "Norm of the gradient",
        "User-months",
    ):
        assert told in ran.stdout
    in_docs = (ROOT / "docs" / "networks.md").read_text()
    assert all(f"figures/{name}" in in_docs for name in names)
