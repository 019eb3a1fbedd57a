"""How tests are sorted: `make quick` finds them, and the longest begin first."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # it starts pytest

ROOT = Path(__file__).parents[2]


def collected(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:schemathesis"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_quick_ones_are_all_of_unit_that_are_not_slow():
    quick = collected(
        "-m", "quick", "tests/unit/test_scan_switches.py", "tests/unit/test_months.py"
    )
    assert quick
    assert {line.split("::")[0] for line in quick} == {"tests/unit/test_months.py"}


def test_the_longest_begin_first():
    found = collected("tests/unit/test_months.py", "tests/unit/test_trial.py")
    assert found[0].startswith("tests/unit/test_trial.py::")
