"""What all tests can ask for, and how they are sorted."""

from pathlib import Path

import pytest

pytest_plugins = [
    "pytester",
    "tests.fixtures.machine",
    "tests.fixtures.tally",
    "tests.fixtures.postgres",
    "tests.fixtures.databases",
    "tests.fixtures.mariadb",
    "tests.fixtures.programs",
    "tests.fixtures.receivers",
    "tests.fixtures.surroundings",
    "tests.fixtures.behaviour",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in tests/unit as quick."""
    unit = Path(__file__).parent / "unit"
    for item in items:
        if item.path.is_relative_to(unit):
            item.add_marker("quick")
