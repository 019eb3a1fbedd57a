"""anomaly audit and key, as an administrator uses them."""

import logging

import pytest
import sqlalchemy as sa
import structlog
from cryptography.fernet import Fernet

from anomaly.exceptions import SettingsError, UsageError
from anomaly.settings import Settings
from pipelines.cli.app import run
from pipelines.keys import create_key_file, key_id, open_secret, read_keys, rotate_key
from tests.fixtures.jobs import Clock, at, make_services

NOW = at("2026-05-20T00:00")


@pytest.fixture
def database(sqlite_url, tmp_path, monkeypatch):
    """An upgraded database that commands find through the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield make_services(sqlite_url, tmp_path, Clock(NOW))
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def keyed(database, path):
    """Settings with a key file."""
    values = database.settings.model_dump(exclude_unset=True)
    return Settings.model_validate({**values, "privacy": {"key_file": path}})


def said(capsys, *arguments, code=0):
    assert run(list(arguments)) == code
    told = capsys.readouterr()
    return told.out + told.err


def test_no_name_is_in_a_row_and_its_name_finds_it(database, capsys):
    database.audit.record("account:ann", "flag.label", "user:bob", "ticket 7")
    database.audit.record("account:eve", "run.ask", "month:2026-03")
    (entry, other) = database.store.audit.read()
    for name in ("ann", "bob", "eve"):
        assert name not in repr((entry, other))
    assert other.subject == "month:2026-03"
    assert len(entry.subject) == len("user:") + 32
    text = said(capsys, "audit", "list", "--subject", "user:bob")
    assert "flag.label" in text
    assert "run.ask" not in text
    assert "run.ask" in said(capsys, "audit", "list", "--actor", "account:eve")


def test_a_reason_that_names_the_user_is_refused(database):
    with pytest.raises(UsageError, match=r"--reason names the user"):
        database.audit.record("account:ann", "user.reveal", "user:bob", "because Bob left")
    assert database.store.audit.read() == []


def test_verify_says_which_row_was_altered(database, capsys):
    for month in ("2026-01", "2026-02", "2026-03"):
        database.audit.record("account:ann", "run.ask", f"month:{month}")
    text = said(capsys, "audit", "verify")
    assert text.startswith("3 rows, none altered, removed or moved; ")
    digest = text.split()[-1]
    database.audit.record("account:ann", "run.ask", "month:2026-04")
    assert "4 rows" in said(capsys, "audit", "verify", "--expect", digest)
    with database.store._database.engine.begin() as connection:
        connection.execute(sa.text("DROP TRIGGER audit_keeps_UPDATE"))
        connection.execute(sa.text("UPDATE audit SET subject = 'month:2025-02' WHERE id = 2"))
    text = said(capsys, "audit", "verify", code=4)
    assert "row 2 was altered" in text
    assert "Compare it with a backup" in text
    assert "no row has the digest 00ff" in said(
        capsys, "audit", "verify", "--expect", "00ff", code=4
    )


def test_a_key_file_is_made_once_and_for_its_owner(tmp_path, database, capsys):
    path = tmp_path / "key"
    assert f"{path} holds key " in said(capsys, "key", "create", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert "is there already" in said(capsys, "key", "create", str(path), code=2)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"anybody may read it. .* chmod 600"):
        read_keys(path)


def test_a_secret_is_sealed_once_there_is_a_key(database, tmp_path):
    bare = open_secret(database.settings, database.store, NOW)
    assert database.store.secrets.read().content == bare.content, "no key file: it lies open"
    create_key_file(tmp_path / "key")
    settings = keyed(database, tmp_path / "key")
    assert open_secret(settings, database.store, NOW) == bare
    assert bare.content not in database.store.secrets.read().content
    assert open_secret(settings, database.store, NOW) == bare
    with pytest.raises(SettingsError, match=r"key_file is not set, but this database is under key"):
        open_secret(database.settings, database.store, NOW)
    create_key_file(tmp_path / "wrong")
    with pytest.raises(SettingsError, match=r"this database is under key .*, the file holds"):
        open_secret(keyed(database, tmp_path / "wrong"), database.store, NOW)
    assert "Secret(...)" in repr(bare)


def test_a_rotated_key_opens_nothing_and_nothing_else_changes(
    database, tmp_path, monkeypatch, capsys
):
    path, old = tmp_path / "key", tmp_path / "old"
    create_key_file(path)
    old.write_bytes(path.read_bytes())
    old.chmod(0o600)
    monkeypatch.setenv("ANOMALY_PRIVACY__KEY_FILE", str(path))
    settings = keyed(database, path)
    before = open_secret(settings, database.store, NOW)
    text = said(capsys, "key", "rotate")
    assert f"has replaced {key_id(read_keys(old)[0])}; pseudonyms stay" in text
    assert open_secret(settings, database.store, NOW) == before
    assert len(read_keys(path)) == 1
    with pytest.raises(SettingsError, match=r"this database is under key"):
        open_secret(keyed(database, old), database.store, NOW)
    assert said(capsys, "audit", "verify").startswith("1 rows, none altered")


@pytest.mark.parametrize("sealed_again", [False, True])
def test_a_rotation_that_was_killed_is_ended_by_the_next(database, tmp_path, sealed_again):
    """Between its steps the file holds both keys, and the database is under either."""
    path = tmp_path / "key"
    create_key_file(path)
    settings = keyed(database, path)
    before = open_secret(settings, database.store, NOW)
    (old,) = read_keys(path)
    new = Fernet.generate_key().decode()
    path.write_text(f"{new}\n{old}\n" if not sealed_again else f"{new}\n")
    if sealed_again:
        path.write_text(f"{new}\n{old}\n")
        rotate_key(settings, database.store, NOW)
        path.write_text(f"{new}\n{old}\n")
    assert open_secret(settings, database.store, NOW) == before
    rotate_key(settings, database.store, NOW)
    assert read_keys(path) == [new]
    assert open_secret(settings, database.store, NOW) == before


def test_without_a_key_file_there_is_nothing_to_rotate(database, capsys):
    assert "key_file is not set" in said(capsys, "key", "rotate", code=2)
