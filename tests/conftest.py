"""What all tests can ask for, and how they are sorted."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before gRPC is imported, by Ray's client: its handlers run Python in each forked child, and now and then
# one of PostgreSQL's programs, started as another user, died of that before it began.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

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


# What takes a minute or more begins first, the longest at the top: where it begins last, one process is
# busy with it for minutes while the others have nothing left to do. `make test` keeps this order.
FIRST = """
    integration/test_real_input.py
    docs/test_snippets.py
    unit/test_networks_kinds.py
    properties/test_engine.py
    unit/test_bad_input.py
    e2e/test_pages.py
    faults/test_kills.py
    packaging/test_wheel.py
    integration/test_models_compare.py
    integration/test_upgrade.py
    unit/test_trial.py
    packaging/test_extensions.py
    unit/test_networks_benchmark.py
    packaging/test_container.py
    integration/test_ray.py
    integration/test_alert_chain.py
""".split()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark as quick what lies in tests/unit and is not said to take long, before `-m quick` chooses; put
    the longest first when all else is done.
    """
    unit = Path(__file__).parent / "unit"
    for item in items:
        lasting = {mark.name for mark in item.iter_markers()} & {"slow", "long"}
        if item.path.is_relative_to(unit) and not lasting:
            item.add_marker("quick")
    places = {Path(__file__).parent / name: place for place, name in enumerate(FIRST)}
    assert all(path.exists() for path in places), "FIRST names a file that is not there"
    yield
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))
