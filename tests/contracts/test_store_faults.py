"""Databases that fail: what the user is told, and what is left behind."""

import datetime as dt
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url

from anomaly.exceptions import SchemaError, SourceError
from anomaly.store import Store, open_engine, schema
from anomaly.store import engine as engines
from anomaly.store.database import Database
from tests.contracts.conftest import observed, opened

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ROWS = observed(*((f"u{n}", "x", T0, 1.0) for n in range(2_000)))
SECRET = "s3cret-Passw0rd%"  # pragma: allowlist secret


@pytest.fixture
def engine(database_url):
    engine = open_engine(database_url)
    schema.upgrade(engine)
    yield engine
    engine.dispose()


def on_connect(engine, statement, *, first=False):
    """Run a statement on each new connection, and let there be only new ones."""

    def run(connection, _record):
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()

    engine.dispose()
    event.listen(engine, "connect", run, insert=first)


def test_a_crash_midway_leaves_nothing(database_url):
    opened(database_url).close()
    script = """if True:
        import os, sys
        from anomaly.store import Store, observations, open_engine
        from tests.contracts.test_store_faults import ROWS
        observations.Sorted.first_seen = lambda self: os._exit(9)
        Store(open_engine(sys.argv[1])).observations.write(ROWS, "test")
    """
    ended = subprocess.run([sys.executable, "-c", script, database_url], check=False)
    assert ended.returncode == 9, "the rows were in the database, and not committed"
    store = opened(database_url)
    assert store.observations.count() == 0
    assert store.observations.write(ROWS, "test").inserted == len(ROWS)
    store.close()


def test_a_full_disk(sqlite_url):
    engine = open_engine(sqlite_url)
    schema.upgrade(engine)
    on_connect(engine, "PRAGMA max_page_count = 60")
    store = Store(engine)
    with pytest.raises(SourceError, match=r"anomaly\.db has no space left on its disk. Free space"):
        store.observations.write(ROWS, "test")
    assert store.observations.count() == 0
    store.close()


def test_a_database_that_may_only_be_read(engine):
    if engine.dialect.name == "sqlite":
        on_connect(engine, "PRAGMA query_only = ON")
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            name = engine.url.database
            setting = f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
            connection.execute(sa.text(setting))
        engine.dispose()
    store = Store(engine)
    with pytest.raises(SourceError, match=r"cannot be written. Give this user the right"):
        store.observations.write(ROWS, "test")
    assert store.observations.count() == 0


def test_a_database_that_may_only_be_read_is_read_all_the_same(sqlite_url):
    """Preparing a connection would like to change the journal, and must do without."""
    with closing(sqlite3.connect(str(make_url(sqlite_url).database))) as connection:
        connection.execute("CREATE TABLE other (a)")
    engine = open_engine(sqlite_url)
    on_connect(engine, "PRAGMA query_only = ON", first=True)
    with pytest.raises(SchemaError, match=r"has no tables yet"):
        schema.check(engine)
    engine.dispose()


def test_no_folder_no_database_and_damage(tmp_path):
    store = Store(open_engine(f"sqlite:///{tmp_path}/nowhere/a.db"))
    with pytest.raises(SourceError, match=r"nowhere/a\.db cannot be opened. Check that its folder"):
        store.check()
    (tmp_path / "notes.txt").write_text("no database, but long enough to be taken for one" * 100)
    store = Store(open_engine(f"sqlite:///{tmp_path}/notes.txt"))
    with pytest.raises(
        SourceError, match=r"notes\.txt is no SQLite database. Check \[database\] url"
    ):
        store.observations.users()


def test_a_locked_database_is_waited_for_but_not_for_ever(sqlite_url, monkeypatch):
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.05)
    store = opened(sqlite_url)
    path = str(make_url(sqlite_url).database)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SourceError, match=r"is busy with another process's work. Try again"):
            store.observations.write(ROWS, "test")
        assert store.observations.count() == 0, "readers do not wait for writers"
        patient = Store(store._database.engine, retries=20)
        freeing = threading.Timer(0.3, other.execute, ["ROLLBACK"])
        freeing.start()
        assert patient.observations.write(ROWS, "test").inserted == len(ROWS)
        freeing.join()
    store.close()


def test_a_lost_connection_is_made_again(postgres_url):
    engine = open_engine(postgres_url)
    attempts = []

    def work(connection):
        attempts.append(connection)
        if len(attempts) == 1:
            connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return connection.execute(sa.text("SELECT 7")).scalar_one()

    assert Database(engine, retries=2).write(work) == 7
    assert len(attempts) == 2
    attempts.clear()
    with pytest.raises(SourceError, match=r"cannot be reached. Check that it is running"):
        Database(engine, retries=0).write(work)
    engine.dispose()


def test_reading_begins_again_until_it_has_begun(engine):
    attempts = []

    def rows(fails_after):
        attempts.append(1)
        yield from range(fails_after)
        if len(attempts) == 1:
            error = sqlite3.OperationalError("gone")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        yield "more"

    patient = Database(engine, retries=2)
    assert list(patient.stream(lambda: rows(0))) == ["more"]
    attempts.clear()
    with pytest.raises(SourceError):
        list(patient.stream(lambda: rows(2)))
    assert len(attempts) == 1, "what came already would come twice"


def test_our_own_errors_pass_and_undo(engine):
    database = Database(engine, retries=3)
    attempts = []

    def work(connection):
        attempts.append(1)
        connection.execute(sa.text("DELETE FROM metrics"))
        raise LookupError

    with pytest.raises(LookupError):
        database.write(work)
    assert len(attempts) == 1, "what is not the database's fault is not tried again"


def failing(url):
    """What is said when the tables are read, and when rows are: they come by another driver."""
    store = Store(open_engine(url), retries=0)
    with pytest.raises(SourceError) as told:
        store.check()
    with pytest.raises(SourceError) as told_of_rows:
        list(store.observations.read())
    store.close()
    said = [str(told.value), str(told_of_rows.value)]
    for words in said:
        assert SECRET not in words
        assert "Traceback" not in words
        assert "\n" not in words
    return said


def with_secret(url, **changes):
    return make_url(url).set(password=SECRET, **changes).render_as_string(hide_password=False)


def test_a_wrong_password(guarded_postgres_url):
    for words in failing(with_secret(guarded_postgres_url)):
        assert "refused the login. Check the user in [database] url and its password" in words


def test_a_database_that_does_not_exist(postgres_url):
    for words in failing(with_secret(postgres_url, database="nowhere")):
        assert "database nowhere at" in words
        assert "does not exist. Create it: createdb" in words


def test_a_server_that_is_away():
    for words in failing(with_secret("postgresql://ann@127.0.0.1:1/behaviour")):
        assert "database behaviour at 127.0.0.1:1 cannot be reached" in words


def test_the_password_is_read_from_a_file(guarded_postgres_url, tmp_path):
    address = make_url(guarded_postgres_url)
    file = tmp_path / "password"
    file.write_text(f"{address.password}\n")
    bare = address.set(password=None).render_as_string(hide_password=False)
    engine = open_engine(bare, file)
    schema.upgrade(engine)
    store = Store(engine)
    store.observations.write(ROWS, "test")
    assert sum(map(len, store.observations.read())) == len(ROWS)
    store.close()


def copying(connection):
    """In the middle of a copy."""
    connection.execute("CREATE TEMPORARY TABLE staged (value double precision)")
    connection.pgconn.exec_(b"COPY staged FROM STDIN")


def having_sent_much(connection):
    """After statements that were sent at once, when the server's limit on silence may not hold: here it is
    far off, for the server sometimes keeps it.
    """
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
    connection.cursor().executemany("SELECT %s", [(1,), (2,)])


@pytest.mark.parametrize("name", ["anomaly", "psql"])
@pytest.mark.parametrize("frozen", [copying, having_sent_much])
def test_who_waits_for_a_frozen_process_ends_its_transaction_and_nobody_elses(
    postgres_url, monkeypatch, frozen, name
):
    monkeypatch.setattr(engines, "FROZEN_SECONDS", 1)
    opened(postgres_url).close()
    store, ttl = Store(open_engine(postgres_url), retries=2), dt.timedelta(minutes=1)
    assert store.lease.acquire("jobs", "one", ttl, T0).number == 1
    address = postgres_url.replace("+psycopg", "")
    with (
        closing(store),
        closing(psycopg.connect(address, application_name=name)) as holder,
    ):
        holder.execute("SELECT token FROM leases FOR UPDATE")
        frozen(holder)
        if name == "anomaly":
            assert store.lease.acquire("jobs", "two", ttl, T0 + 2 * ttl).number == 2
        else:
            with pytest.raises(SourceError, match="is busy with another process's work"):
                store.lease.acquire("jobs", "two", ttl, T0 + 2 * ttl)
