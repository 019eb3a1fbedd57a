"""Names at the door, behind pseudonyms, and forgotten."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from pyarrow import parquet

from anomaly.exceptions import SettingsError, UsageError
from anomaly.feedback import Label, Terms
from anomaly.months import Month
from anomaly.secrecy import is_pseudonym
from anomaly.settings import Settings
from anomaly.store.tables import METADATA
from pipelines.cli.app import run
from pipelines.jobs.erase import erase_user, reveal_user
from pipelines.jobs.ingest import ingest_file, ingest_source
from pipelines.jobs.month import run_month
from pipelines.jobs.people import import_calendar, import_users
from pipelines.keys import create_key_file
from tests.fixtures.jobs import Clock, at, behaviour, make_services
from tests.fixtures.serving import token_of

NAME, OTHER = "zebulon.quux", "zebulon.quuxley"  # u2 and u3; the second's name holds the first's
NAMES = {"u2": NAME, "u3": OTHER}
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u3", "2026-03-20T03:00"): 900.0}
NOW = at("2026-05-20T00:00")


pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def named(database_url, tmp_path):
    """Services that keep names as they come; the database is on either kind."""
    services = make_services(database_url, tmp_path, Clock(NOW))
    yield services
    services.store.close()


@pytest.fixture
def plain(sqlite_url, tmp_path):
    """As `named`, on SQLite alone."""
    services = make_services(sqlite_url, tmp_path, Clock(NOW))
    yield services
    services.store.close()


@pytest.fixture
def hiding(sqlite_url, tmp_path):
    """Services that pseudonymise."""
    create_key_file(tmp_path / "key")
    values = {
        "database": {"url": sqlite_url},
        "run": {"workers": 1},
        "privacy": {"pseudonymise": True, "key_file": tmp_path / "key"},
    }
    services = make_services(sqlite_url, tmp_path, Clock(NOW), Settings.model_validate(values))
    yield services
    services.store.close()


def rows(peaks=PEAKS, last="2026-04", names=NAMES):
    """Behaviour of six users, two of whom have names worth hiding."""
    table = behaviour("2026-01", last, peaks=peaks)
    users = [names.get(user, user) for user in table["user_id"].to_pylist()]
    return table.set_column(0, "user_id", pa.array(users))


def filled(services, folder):
    """A database in which the user is everywhere: observed, scored twice, judged, rejected, listed."""
    folder.mkdir()
    parquet.write_table(rows(), folder / "behaviour.parquet")
    bad = folder / "bad.csv"
    lines = ["user_id,metric,observed_at,value", *(
        f"u{n},files,2026-04-{day:02}T01:00:00Z,1" for day in range(1, 29) for n in (0, 4, 5)
    ), f"{NAME},files,2026-04-01T01:00:00Z,lots"]  # fmt: skip
    bad.write_text("\n".join(lines) + "\n")
    (folder / "users.csv").write_text(f"user_id,department\n{NAME},sales\n{OTHER},sales\n")
    (folder / "calendar.csv").write_text(
        f"kind,start,end,name,user_id\nleave,2026-02-02,2026-02-03,of {NAME},{NAME}\n"
        "holiday,2026-01-01,2026-01-02,New Year,\n"
    )
    ingest_file(services, folder / "behaviour.parquet")
    ingest_file(services, bad)
    import_users(services, folder / "users.csv")
    import_calendar(services, folder / "calendar.csv")
    month = Month(2026, 3)
    outcome = run_month(services, month)
    run_month(services, month, replace_options(force=True))
    run_month(services, month.next())
    for flag in outcome.flags:
        judge(services, flag.flag_id, "false_alarm", f"seen {flag.user_id}")
    return services


def judge(services, flag_id, verdict, note, replacing=None):
    label = Label(flag_id, verdict, "boss", note, replacing=replacing)
    services.store.feedback.label([label], Terms(1.0, dt.timedelta(days=90)), NOW)


def replace_options(**changes):
    from pipelines.jobs.scope import Options

    return Options(**changes)


def tables(services):
    """Every row of every table, as text; what is packed is left to the search of files."""
    with services.store._database.engine.connect() as connection:
        return {
            name: [repr(tuple(row)) for row in connection.execute(sa.select(table))]
            for name, table in METADATA.tables.items()
        }


def holding(services, word):
    """The tables in which a word stands by itself."""
    found = set()
    for name, lines in tables(services).items():
        if any(word in line.replace(OTHER, "") for line in lines):
            found.add(name)
    return found


def files_holding(services, folder, word):
    """The files in which a word stands by itself, other than those that were imported."""
    database = services.store._database.engine.url.database
    places = [path for path in folder.rglob("*") if path.is_file() and "given" not in path.parts]
    assert services.store._database.postgres or Path(database) in places
    return {
        path.name
        for path in places
        if word.encode() in path.read_bytes().replace(OTHER.encode(), b"")
    }


def test_an_erased_user_is_in_no_table_and_in_no_file(named, tmp_path):
    services = filled(named, tmp_path / "given")
    before = holding(services, NAME)
    assert {"observations", "users", "events", "rejects", "flags", "user_months", "states",
            "feedback", "suppressions"} <= before  # fmt: skip
    sqlite = not services.store._database.postgres
    assert bool(files_holding(services, tmp_path, NAME)) == sqlite
    others = {name: len([1 for line in lines if NAME not in line.replace(OTHER, "")])
              for name, lines in tables(services).items()}  # fmt: skip
    done = erase_user(services, "account:boss", NAME, "ticket 7")
    assert done.swept
    assert done.rows["observations"] > 100
    assert holding(services, NAME) == set()
    assert files_holding(services, tmp_path, NAME) == set()
    left = {name: len(lines) for name, lines in tables(services).items()}
    for name in ("observations", "users", "events", "flags", "user_months", "states", "feedback"):
        assert left[name] == others[name], "nobody else has lost a row"
    assert services.audit.findings()[2] == []
    (entry,) = services.audit.rows(subject=f"user:{NAME}")
    assert (entry.action, entry.reason) == ("user.erase", "ticket 7")
    assert run_month(services, Month(2026, 3)).state == "complete"
    with pytest.raises(UsageError, match=r"no table holds this user"):
        erase_user(services, "account:boss", NAME, "ticket 7")


def test_what_others_say_of_an_erased_user_is_crossed_out(plain, tmp_path):
    services = filled(plain, tmp_path / "given")
    (flag,) = [f for f in services.store.flags.select() if f.flag.user_id == OTHER][:1]
    note = f"like {NAME}, but not {OTHER}; {NAME}"
    judge(services, flag.flag.flag_id, "true", note, replacing="false_alarm")
    erase_user(services, "account:boss", NAME, "ticket 7")
    said = " ".join(tables(services)["feedback"])
    assert f"like (erased), but not {OTHER}; (erased)" in said


def test_an_erased_user_comes_back_with_new_rows_only(plain, tmp_path):
    services = filled(plain, tmp_path / "given")
    services.clock.now = at("2026-04-20T00:00")
    erase_user(services, "account:boss", NAME, "ticket 7")
    services.clock.now = NOW
    again = ingest_file(services, tmp_path / "given" / "behaviour.parquet")
    assert again.inserted == 11 * 4 * 2, "of the eleven days from the 20th on"
    assert again.tally.erased + again.inserted + again.unchanged == again.tally.read
    assert services.store.observations.first_seen([NAME])[NAME] >= at("2026-04-20T00:00")


def test_an_erased_user_can_be_kept_out_for_good(plain, tmp_path):
    services = filled(plain, tmp_path / "given")
    services.clock.now = at("2026-04-20T00:00")
    erase_user(services, "account:boss", NAME, "ticket 7", keep_out=True)
    services.clock.now = NOW
    again = ingest_file(services, tmp_path / "given" / "behaviour.parquet")
    assert again.inserted == 0
    assert import_users(services, tmp_path / "given" / "users.csv") == 1
    assert len(import_calendar(services, tmp_path / "given" / "calendar.csv").rows) == 1
    assert holding(services, NAME) == set()


def test_pseudonyms_stand_for_names_everywhere(hiding, tmp_path):
    services = filled(hiding, tmp_path / "given")
    for name in (NAME, OTHER):
        assert holding(services, name) == set()
        assert not any(name in line for lines in tables(services).values() for line in lines)
        for path in tmp_path.rglob("*"):
            if path.is_file() and "given" not in path.parts:
                assert name.encode() not in path.read_bytes(), path
    assert all(is_pseudonym(user) for user in services.store.observations.users())
    flags = services.store.flags.select()
    assert flags
    assert all(is_pseudonym(row.flag.user_id) for row in flags)
    assert {row.text for row in services.store.rejects.list()} == {"withheld"}
    assert [row.name for row in services.store.events.read()] == ["New Year", ""]


def test_a_second_import_knows_everyone_again(hiding, tmp_path):
    services = filled(hiding, tmp_path / "given")
    again = ingest_file(services, tmp_path / "given" / "behaviour.parquet")
    assert (again.inserted, again.corrected) == (0, 0)
    assert len(services.store.observations.users()) == 6


def test_a_pseudonym_is_opened_with_a_reason_and_a_trace(hiding, tmp_path):
    services = filled(hiding, tmp_path / "given")
    pseudonym = services.audit.secret().pseudonym(NAME)
    assert reveal_user(services, "account:boss", pseudonym, "ticket 8") == NAME
    (entry,) = services.audit.rows(subject=f"user:{pseudonym}")
    assert (entry.action, entry.reason) == ("user.reveal", "ticket 8")
    with pytest.raises(UsageError, match=r"--reason is empty"):
        reveal_user(services, "account:boss", pseudonym, " ")
    with pytest.raises(UsageError, match=r"--reason names the user"):
        reveal_user(services, "account:boss", pseudonym, f"what did {NAME} do")
    with pytest.raises(UsageError, match=r"is no pseudonym of this database"):
        reveal_user(services, "account:boss", NAME, "ticket 8")
    assert len(services.store.audit.read()) == 1


def by_environment(monkeypatch, services, folder):
    """Let commands that are given in the folder find the database and its key."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", services.settings.database.url)
    monkeypatch.setenv("ANOMALY_PRIVACY__PSEUDONYMISE", "true")
    monkeypatch.setenv("ANOMALY_PRIVACY__KEY_FILE", str(folder / "key"))


@pytest.mark.parametrize(
    ("command", "option"), [("reveal", ()), ("erase", ("--user",))], ids=["reveal", "erase"]
)
def test_names_take_an_administrators_token_once_there_are_tokens(
    hiding, tmp_path, monkeypatch, capsys, command, option
):
    services = filled(hiding, tmp_path / "given")
    by_environment(monkeypatch, services, tmp_path)
    pseudonym = services.audit.secret().pseudonym(NAME)
    call = [command, *option, pseudonym, "--reason", "ticket 1"]
    given = {role: token_of(services.store, role, role) for role in ("operator", "administrator")}
    late = token_of(services.store, "administrator", "late")
    (ended,) = [one.id for one in services.store.tokens.everyone() if one.name == "late"]
    services.store.tokens.revoke(ended, services.clock())
    capsys.readouterr()

    for secret in (None, "nonsense", late, given["operator"]):
        with monkeypatch.context() as patched:
            if secret is not None:
                patched.setenv("ANOMALY_TOKEN", secret)
            assert run(call) == 2
        told = capsys.readouterr()
        assert NAME not in told.out + told.err
        assert "the role administrator" in told.err or "token of an administrator" in told.err
    assert services.store.audit.read() == [], "nothing was done"
    assert holding(services, pseudonym)

    monkeypatch.setenv("ANOMALY_TOKEN", given["administrator"])
    assert run(call) == 0
    assert len(services.audit.rows(actor="administrator")) == 1


@pytest.mark.parametrize("by_name", [True, False])
def test_who_has_a_pseudonym_is_erased_by_either(hiding, tmp_path, by_name):
    services = filled(hiding, tmp_path / "given")
    pseudonym = services.audit.secret().pseudonym(NAME)
    assert holding(services, pseudonym)
    erase_user(services, "account:boss", NAME if by_name else pseudonym, "ticket 9")
    assert holding(services, pseudonym) == set()
    assert files_holding(services, tmp_path, pseudonym) == set()
    assert ingest_file(services, tmp_path / "given" / "behaviour.parquet").inserted == 0
    with pytest.raises(UsageError, match=r"is no pseudonym"):
        reveal_user(services, "account:boss", pseudonym, "ticket 9")


def test_a_folder_and_a_database_that_are_read_pass_the_door_too(hiding, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    parquet.write_table(rows(), given / "part.parquet")
    with sa.create_engine(f"sqlite:///{given / 'source.db'}").begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE events (user_id TEXT, metric TEXT, observed_at TEXT, value REAL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO events VALUES (?, 'files', '2026-05-01 01:00:00', 2)", [(NAME,), (OTHER,)]
        )
    for source in (
        {"path": str(given)},
        {"url": f"sqlite:///{given / 'source.db'}", "table": "events"},
    ):
        values = {**hiding.settings.model_dump(exclude_unset=True), "source": source}
        done = ingest_source(replace(hiding, settings=Settings.model_validate(values)))
        assert done.inserted > 0
    assert not any(NAME in line for lines in tables(hiding).values() for line in lines)
    assert len(hiding.store.observations.users()) == 6


def test_names_and_pseudonyms_do_not_mix(hiding, tmp_path):
    open_to_all = replace(
        hiding, settings=hiding.settings.model_copy(update={"privacy": Settings().privacy})
    )
    path = tmp_path / "some.parquet"
    parquet.write_table(rows(last="2026-01"), path)
    ingest_file(hiding, path)
    with pytest.raises(SettingsError, match=r"this database holds pseudonyms; names would stand"):
        ingest_file(open_to_all, path)


def test_a_database_of_names_takes_no_pseudonyms(hiding, tmp_path):
    hiding.store.observations.write(rows(last="2026-01"), "before")
    path = tmp_path / "some.parquet"
    parquet.write_table(rows(last="2026-01"), path)
    with pytest.raises(SettingsError, match=r"holds 6 users under their names"):
        ingest_file(hiding, path)


def test_without_a_key_nothing_is_read(sqlite_url, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("ANOMALY_PRIVACY__PSEUDONYMISE", "true")
    make_services(sqlite_url, tmp_path, Clock(NOW))
    assert run(["users", "list", "--month", "2026-03"]) == 2
    assert "[privacy] pseudonymise needs a key: anomaly key create" in capsys.readouterr().err


def test_the_commands_say_what_they_did(hiding, tmp_path, monkeypatch, capsys):
    services = filled(hiding, tmp_path / "given")
    by_environment(monkeypatch, services, tmp_path)
    pseudonym = services.audit.secret().pseudonym(NAME)
    capsys.readouterr()
    assert run(["reveal", pseudonym, "--reason", "ticket 1"]) == 0
    assert capsys.readouterr().out.strip() == NAME
    assert run(["key", "rotate"]) == 0
    assert run(["reveal", pseudonym, "--reason", "ticket 2"]) == 0
    assert NAME in capsys.readouterr().out
    assert run(["erase", "--user", NAME, "--reason", "ticket 3"]) == 0
    text = capsys.readouterr().out
    assert "pseudonyms" in text
    assert "Exports and backups that were made before still hold the user" in text
    assert run(["reveal", pseudonym, "--reason", "ticket 4"]) == 2
    assert run(["erase", "--user", NAME, "--reason", "ticket 5"]) == 2
    assert run(["db", "sweep"]) == 0
    assert run(["audit", "verify"]) == 0
    assert "4 rows" in capsys.readouterr().out


def test_a_killed_ingest_leaves_no_rows_behind(tmp_path, monkeypatch):
    """Rows wait for their writing in a file without a name."""
    import tempfile

    from pipelines.jobs.ingest import spool

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with spool() as clean:
        clean.add(rows(last="2026-01"))
        assert list(tmp_path.iterdir()) == []
        assert sum(map(len, clean.tables())) == clean.rows > 0


def test_a_log_that_another_reads_is_not_called_swept(sqlite_url, tmp_path, monkeypatch):
    from anomaly.store import engine as engines
    from pipelines.jobs import erase

    monkeypatch.setattr(erase, "SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    services = filled(make_services(sqlite_url, tmp_path, Clock(NOW)), tmp_path / "given")
    reader = sa.create_engine(sqlite_url).connect()
    reader.exec_driver_sql("BEGIN")
    reader.exec_driver_sql("SELECT count(*) FROM users").scalar_one()
    assert not erase_user(services, "account:boss", NAME, "ticket 7").swept
    reader.close()
    assert erase.swept(services)
    assert files_holding(services, tmp_path, NAME) == set()
