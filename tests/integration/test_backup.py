"""docs/backup.md, followed: what is restored in an empty place exports the same rows."""

import shutil
import sqlite3
import subprocess
from contextlib import closing

import pytest
from sqlalchemy.engine import make_url

from anomaly.months import Month
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services
from tests.fixtures.postgres import programs, server_of_the_wheel

MONTH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}


@pytest.fixture
def original(database_url, tmp_path):
    """A month that is complete, and one that has just begun."""
    (tmp_path / "original").mkdir()
    clock = Clock(at("2026-04-20T00:00"))
    services = make_services(database_url, tmp_path / "original", clock)
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


def dumped(url, machine, folder) -> str:
    """The address of the same database on another machine, by way of pg_dump and pg_restore."""
    file, source = folder / "anomaly.dump", plain(make_url(url))
    execute("pg_dump", "--format=custom", f"--file={file}", source)
    execute("createdb", f"--maintenance-db={plain(machine)}", "anomaly")
    target = machine.set(database="anomaly")
    execute("pg_restore", "--exit-on-error", f"--dbname={plain(target)}", str(file))
    return target.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def plain(url) -> str:
    """An address as PostgreSQL's own programs write it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def execute(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs."""
    done = subprocess.run(
        [programs() / program, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def restored_url(original, tmp_path):
    """The address of a database restored from a backup, on an empty machine."""
    (tmp_path / "restored").mkdir()
    if original.settings.database.url.startswith("sqlite"):
        yield copied(original.settings.database.url, tmp_path / "restored")
        return
    with server_of_the_wheel() as empty:
        yield dumped(original.settings.database.url, make_url(empty.get_uri()), tmp_path)


def test_a_restored_month_exports_the_same_rows(original, restored_url, tmp_path):
    folder = tmp_path / "restored"
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
