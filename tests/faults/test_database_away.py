"""The database fails in the middle of a month: it is waited for, or the month fails and says so.

Each fault strikes after one statement of a run; moments are spread over all its stages. Afterwards
the same command is given again, and the month is that of an undisturbed run, published once.
PostgreSQL's full disk is an error of that code raised by triggers: no disk is filled.
`make faults` strikes at more moments, and a table at its end says what came of it.
"""

import os
import random
import signal
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from pyarrow import parquet
from sqlalchemy import event
from sqlalchemy.engine import make_url

from anomaly.exceptions import SourceError
from anomaly.months import Month
from anomaly.settings import Settings
from anomaly.store import Store, engine, open_engine
from anomaly.store.tables import METADATA
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services
from tests.fixtures.postgres import Server, server_of_the_wheel, started
from tests.fixtures.tally import compared

# SQLAlchemy drops, without closing it, a connection whose server went away while it was opened.
pytestmark = pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
MONTH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}
CONNECTIONS = 12
MOMENTS = 6  # of each fault, in the long form
AWAY_SECONDS = 0.7


@dataclass
class Database:
    """A database that can be made to fail. server: of PostgreSQL, or None for SQLite."""

    url: str
    server: object = None

    @property
    def name(self) -> str:
        return str(make_url(self.url).database)

    def execute(self, *statements: str) -> None:
        root = make_url(self.server.get_uri()).render_as_string(hide_password=False)
        with psycopg.connect(root, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def terminate(self) -> None:
        """Cut every connection to it."""
        self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self.name}' AND pid <> pg_backend_pid()"
        )


Undo = Callable[[], None]
Fault = Callable[[Database], Undo]


def nothing() -> None:
    """What passes by itself needs no undoing."""


def after(seconds: float, work: Callable[[], object]) -> Undo:
    """Do work a little later; undoing waits for it."""
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer.join


# --- what happens to PostgreSQL


def restarted(database: Database) -> Undo:
    database.server.stop()
    started(database.server)
    return nothing


def killed(database: Database) -> Undo:
    _kill(database)
    return after(AWAY_SECONDS, lambda: started(database.server))


def away(database: Database) -> Undo:
    _kill(database)
    return lambda: started(database.server)


def _kill(database: Database) -> None:
    postmaster = psutil.Process(database.server.get_pid())
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def crowded(database: Database) -> Undo:
    """Others hold every connection, for a while."""
    database.terminate()
    root = make_url(database.server.get_uri()).render_as_string(hide_password=False)
    held = []
    try:
        while True:
            held.append(psycopg.connect(root))
    except psycopg.OperationalError:
        pass
    return after(AWAY_SECONDS, lambda: [connection.close() for connection in held])


def frozen(database: Database) -> Undo:
    """Slow beyond measure, for a while."""
    processes = psutil.Process(database.server.get_pid()).children()
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    return after(
        AWAY_SECONDS, lambda: [process.send_signal(signal.SIGCONT) for process in processes]
    )


def read_only(database: Database) -> Undo:
    def becomes(word: str) -> None:
        setting = f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = {word}'
        database.execute("SET default_transaction_read_only = off", setting)
        database.terminate()

    becomes("on")
    return lambda: becomes("off")


def full(database: Database) -> Undo:
    tables = sorted(METADATA.tables)
    with psycopg.connect(_plain(database.url), autocommit=True) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$"
        )
        connection.execute("SET lock_timeout = '200ms'")
        for table in ("flags", "user_months", "states", "observations", "models"):
            assert table in tables
            try:
                connection.execute(
                    f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH STATEMENT "
                    "EXECUTE FUNCTION disk_is_full()"
                )
            except psycopg.errors.LockNotAvailable:
                continue  # being written at this moment; the others are full

    def emptied() -> None:
        with psycopg.connect(_plain(database.url), autocommit=True) as connection:
            connection.execute("DROP FUNCTION disk_is_full() CASCADE")

    return emptied


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


# --- what happens to SQLite


def locked_a_while(database: Database) -> Undo:
    other = _locking(database)
    return after(AWAY_SECONDS, other) if other else nothing


def locked_for_long(database: Database) -> Undo:
    return _locking(database) or nothing


def _locking(database: Database) -> Undo | None:
    connection = sqlite3.connect(
        database.name, isolation_level=None, check_same_thread=False, timeout=0.01
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        connection.close()  # the run is writing: it was there first
        return None
    return connection.close


def pragma(statement: str) -> Fault:
    def fault(_: Database) -> Undo:
        def prepare(connection) -> None:
            connection.exec_driver_sql(statement)

        event.listen(sa.Engine, "begin", prepare)
        return lambda: event.remove(sa.Engine, "begin", prepare)

    fault.__name__ = statement
    return fault


PASSING = {"postgres": [restarted, killed, crowded, frozen], "sqlite": [locked_a_while]}
LASTING = {
    "postgres": [away, read_only, full],
    "sqlite": [
        locked_for_long,
        pragma("PRAGMA query_only = ON"),
        pragma("PRAGMA max_page_count = 1"),
    ],
}
ALL = [(kind, fault) for kind in ("sqlite", "postgres") for fault in PASSING[kind] + LASTING[kind]]
IDS = [f"{kind}-{fault.__name__}-{number}" for number, (kind, fault) in enumerate(ALL)]


# --- a month, and what it meets


@pytest.fixture(scope="module")
def own_server() -> Iterator[object]:
    """A server that may be stopped and killed, with few connections."""
    with server_of_the_wheel() as server:
        database = Database(server.get_uri(), server)
        database.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        database.execute("ALTER SYSTEM SET superuser_reserved_connections = 2")
        # As it is by default: what is committed outlives a server that is killed.
        database.execute("ALTER SYSTEM SET synchronous_commit = on")
        server.stop()
        started(server)
        yield server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.1)


@contextmanager
def new_database(kind: str, folder: Path, request) -> Iterator[Database]:
    """An empty database."""
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "anomaly.db")) as connection:
            # So small a month fits into a dozen pages of the usual size, and would need no room.
            connection.execute("PRAGMA page_size = 512")
            connection.execute("VACUUM")
        yield Database(f"sqlite:///{folder / 'anomaly.db'}")
        return
    server = request.getfixturevalue("own_server")
    whole = Server(make_url(server.get_uri()), guarded=True)
    name = f"away_{uuid.uuid4().hex[:12]}"
    whole.execute("CREATE DATABASE {}", name)
    yield Database(whole.url(name), server)
    whole.execute("DROP DATABASE {} WITH (FORCE)", name)


def services_of(database: Database, folder: Path, retries: int):
    """Services that read a folder of Parquet, learn and score."""
    settings = Settings.model_validate(
        {
            "database": {"url": database.url, "retries": retries},
            "source": {"path": str(folder / "source.parquet")},
            "run": {"workers": 1, "shard_users": 2},
        }
    )
    clock = Clock(at("2026-04-20T00:00"))
    services = make_services(database.url, folder, clock, settings, holder=uuid.uuid4().hex)
    services.store.close()
    return replace(services, store=Store(open_engine(database.url), retries))


@contextmanager
def counted(strike: Callable[[], None] | None = None, number: int = -1) -> Iterator[list[int]]:
    """Count statements; strike once, after one of them."""
    done = [0]

    def after_execute(*_: object) -> None:
        done[0] += 1
        if done[0] == number and strike is not None:
            strike()

    event.listen(sa.Engine, "after_cursor_execute", after_execute)
    try:
        yield done
    finally:
        event.remove(sa.Engine, "after_cursor_execute", after_execute)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the month comes to, and how many statements it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    parquet.write_table(behaviour("2026-01", "2026-03", peaks=PEAKS), folder / "source.parquet")
    services = services_of(Database(f"sqlite:///{folder / 'anomaly.db'}"), folder, 5)
    with counted() as statements:
        assert run_month(services, MONTH).state == "complete"
    flags = exported(services, str(MONTH))
    assert flags
    services.store.close()
    return folder / "source.parquet", flags, statements[0]


def struck(kind, fault, moment, undisturbed, folder, request, retries, tally) -> str:
    """Strike a run, look at what is visible, run again; says how the struck run ended."""
    source, flags, _ = undisturbed
    os.link(source, folder / "source.parquet")
    with new_database(kind, folder, request) as database:
        services = services_of(database, folder, retries)
        undo: list[Undo] = []
        with counted(lambda: undo.append(fault(database)), moment):
            try:
                state = run_month(services, MONTH).state
            except SourceError as error:
                state = f"failed: {error}"
                assert str(error).startswith(("database ", str(folder))), error
            finally:
                for each in undo:
                    each()
        services.store.close()
        again = services_of(database, folder, 5)
        seen = exported(again, str(MONTH))
        assert seen in ([], flags), "an analyst sees all of the month or nothing"
        assert state != "complete" or seen == flags
        again.clock.now = at("2026-04-20T01:00")  # a lease that could not be given back has ended
        assert run_month(again, MONTH).state == "complete"
        found = exported(again, str(MONTH))
        outcome = state.partition(":")[0] if undo else "not met"
        tally.add(f"database: {name_of(fault)}", kind, outcome, 1, *compared(flags, found))
        assert found == flags
        runs = again.store.ledger.runs("month", str(MONTH))
        assert Counter(run.state for run in runs)["complete"] == 1
        assert {run.state for run in again.store.ledger.runs()} <= {"complete", "failed"}
        again.store.close()
    return "not met" if not undo else state


def name_of(fault: Fault) -> str:
    """A fault in words."""
    return fault.__name__.replace("_", " ")


def drawn(count: int, statements: int, seed: int) -> list[int]:
    """Moments spread over a run."""
    rng = random.Random(seed)
    return [1 + int((part + rng.random()) * statements / count) for part in range(count)]


@pytest.mark.parametrize(("kind", "fault"), ALL, ids=IDS)
@pytest.mark.timeout(120)
def test_a_month_in_which_the_database_fails(kind, fault, undisturbed, tmp_path, request, tally):
    passing = fault in PASSING[kind]
    (moment,) = drawn(1, undisturbed[2], time.time_ns())
    ended = struck(kind, fault, moment, undisturbed, tmp_path, request, 8 if passing else 1, tally)
    assert not passing or ended in ("complete", "not met"), f"at statement {moment}: {ended}"


@pytest.mark.long
@pytest.mark.parametrize(("kind", "fault"), ALL, ids=IDS)
@pytest.mark.timeout(1_800)
def test_many_faults(kind, fault, undisturbed, tmp_path, request, tally):
    tally.shown = True
    passing = fault in PASSING[kind]
    for number, moment in enumerate(drawn(MOMENTS, undisturbed[2], seed=5)):
        folder = tmp_path / str(number)
        folder.mkdir()
        state = struck(
            kind, fault, moment, undisturbed, folder, request, 8 if passing else 1, tally
        )
        assert not passing or state in ("complete", "not met"), f"at statement {moment}: {state}"
