"""Tokens from the command line, and a server that does not start where it would let everyone in."""

import pytest

from anomaly.exceptions import SettingsError
from anomaly.settings import Settings
from pipelines.cli.app import run
from pipelines.guard import KEY_FILE, open_door, session_key
from tests.fixtures.jobs import Clock, at, make_services

pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def database(sqlite_url, monkeypatch, tmp_path):
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    monkeypatch.chdir(tmp_path)
    assert run(["db", "upgrade"]) == 0
    return sqlite_url


def test_a_token_is_made_listed_and_revoked(database, capsys):
    assert run(["token", "create", "ann", "--role", "analyst", "--expires", "12h"]) == 0
    said = capsys.readouterr()
    secret = said.out.strip()
    assert secret.startswith("anomaly_")
    assert len(secret) > 40
    assert "token 1 for ann, analyst" in said.err
    assert run(["token", "list"]) == 0
    listed = capsys.readouterr().out
    assert "analyst" in listed
    assert secret not in listed
    assert run(["token", "revoke", "1"]) == 0
    assert run(["token", "revoke", "1"]) == 2
    assert "see: anomaly token list" in capsys.readouterr().err.lower()
    run(["token", "list"])
    assert "ann" not in capsys.readouterr().out
    run(["token", "list", "--all"])
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--role", "root"], "--role 'root' is not known"),
        (["--role", "reader", "--expires", "soon"], "duration 'soon'"),
        (["--role", "reader", "--expires", "0d"], "duration '0d'"),
    ],
)
def test_a_token_of_no_role_or_end_is_refused(database, capsys, arguments, message):
    assert run(["token", "create", "ann", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "anomaly.example.org"])
def test_it_does_not_start_where_others_would_come_in(database, capsys, host):
    assert run(["serve", "--host", host, "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert f"error: [web] host {host}: people must log on here, and nobody can." in error
    assert "anomaly token create NAME --role administrator" in error


def test_a_token_that_was_revoked_does_not_let_it_start(database, capsys):
    run(["token", "create", "ann", "--role", "administrator"])
    run(["token", "revoke", "1"])
    assert run(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "nobody can" in capsys.readouterr().err


def test_no_authentication_is_for_localhost_alone(database, capsys, monkeypatch):
    monkeypatch.setenv("ANOMALY_WEB__AUTHENTICATION", "none")
    run(["token", "create", "ann", "--role", "administrator"])
    assert run(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert 'authentication = "none" would let them all in' in capsys.readouterr().err


def test_the_key_of_cookies_is_made_once_for_its_owner_alone(tmp_path):
    settings = Settings(database={"url": f"sqlite:///{tmp_path / 'a.db'}"})
    first = session_key(settings)
    assert session_key(settings) == first
    file = next(tmp_path.glob(f"*/{KEY_FILE}"))
    assert file.stat().st_mode & 0o077 == 0
    assert [path.name for path in file.parent.iterdir()] == [KEY_FILE]


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_key_that_is_missing_or_short_is_named(tmp_path, content, capsys, database, monkeypatch):
    file = tmp_path / "web.key"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("ANOMALY_WEB__SESSION_KEY_FILE", str(file))
    assert run(["serve", "--port", "0"]) == 2
    assert f"[web] session_key_file {file}: " in capsys.readouterr().err


def test_a_container_brings_its_first_token_along(sqlite_url, tmp_path):
    file = tmp_path / "first"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    web = {"host": "0.0.0.0", "first_token_file": str(file)}
    wanted = {"database": {"url": sqlite_url}, "web": web}
    clock = Clock(at("2026-05-20T00:00"))
    services = make_services(sqlite_url, tmp_path, clock, Settings.model_validate(wanted))
    door = open_door(services)
    found = services.store.tokens.find(file.read_text().strip(), "token", services.clock())
    assert (found.name, found.role) == ("first token", "administrator")
    assert not door.is_open()
    open_door(services)
    assert len(services.store.tokens.everyone()) == 1
    services.store.tokens.revoke(found.id, services.clock())
    with pytest.raises(SettingsError, match="nobody can"):
        open_door(services)


def test_a_first_token_that_could_be_guessed_is_refused(database, capsys, monkeypatch, tmp_path):
    (tmp_path / "first").write_text("secret\n")
    monkeypatch.setenv("ANOMALY_WEB__FIRST_TOKEN_FILE", str(tmp_path / "first"))
    assert run(["serve", "--port", "0"]) == 2
    assert "6 characters could be guessed" in capsys.readouterr().err
