"""docs/backup.md, followed on SQLite: what is restored in an empty place exports the same rows."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from anomaly.months import Month
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services

MONTH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}


@pytest.fixture
def original(sqlite_url, tmp_path):
    """A month that is complete, and one that has just begun."""
    (tmp_path / "original").mkdir()
    clock = Clock(at("2026-04-20T00:00"))
    services = make_services(sqlite_url, tmp_path / "original", clock)
    services.store.observations.write(behaviour("2026-01", "2026-04", peaks=PEAKS), "t")
    run_month(services, MONTH)
    services.audit.record("account:boss", "run.ask", "month:2026-03", "ticket 1")
    yield services
    services.store.close()


def copied(url, folder) -> str:
    """The address of a database that was restored from a backup of this one."""
    with closing(sqlite3.connect(str(make_url(url).database))) as connection:
        connection.execute(f"VACUUM INTO '{folder / 'anomaly.db'}'")
    return f"sqlite:///{folder / 'anomaly.db'}"


def test_a_restored_month_exports_the_same_rows(original, tmp_path):
    folder = tmp_path / "restored"
    folder.mkdir()
    restored_url = copied(original.settings.database.url, folder)
    shutil.copytree(original.artefacts.folder, folder / "artefacts")
    expected = exported(original, str(MONTH))
    assert expected
    restored = make_services(restored_url, folder, Clock(original.clock.now), holder="other")
    assert exported(restored, str(MONTH)) == expected
    assert restored.audit.findings()[2] == []
    assert len(restored.store.audit.read()) == 1
    assert run_month(restored, MONTH).note.endswith("nothing changed")
    assert run_month(original, MONTH.next()).state == "provisional"
    assert run_month(restored, MONTH.next()).state == "provisional"
    following = str(MONTH.next())
    assert exported(restored, following) == exported(original, following), "it goes on alike"
    restored.store.close()
