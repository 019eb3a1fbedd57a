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
    "tests.fixtures.closing",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as quick what lies in tests/unit and is not said to take long."""
    unit = Path(__file__).parent / "unit"
    for item in items:
        lasting = {mark.name for mark in item.iter_markers()} & {"slow", "long"}
        if item.path.is_relative_to(unit) and not lasting:
            item.add_marker("quick")
