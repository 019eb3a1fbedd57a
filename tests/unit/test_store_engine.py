import os
import subprocess
import sys

import pytest

from anomaly.exceptions import SettingsError
from anomaly.store import open_engine


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_memory_is_no_place_for_a_database(url):
    with pytest.raises(SettingsError, match="in memory is gone with its connection"):
        open_engine(url)


@pytest.mark.parametrize("url", ["", "anomaly.db", "postgresql://h:port/x"])
def test_what_is_no_address_is_refused_without_repeating_it(url):
    with pytest.raises(SettingsError, match=r"\[database\] url is no address of a database"):
        open_engine(url)


def test_other_databases_are_named():
    with pytest.raises(SettingsError, match="mysql is not supported"):
        open_engine("mysql://ann:secret@host/db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_all_ways_to_write_postgresql(scheme):
    engine = open_engine(f"{scheme}://ann:secret@host:5433/db")
    assert engine.url.drivername == "postgresql+psycopg"
    assert "secret" not in repr(engine)


def test_a_password_file_that_is_not_there(tmp_path):
    with pytest.raises(
        SettingsError, match=r"\[database\] password_file .*secret\.txt: cannot be read"
    ):
        open_engine("postgresql://ann@host/db", tmp_path / "secret.txt")


def test_only_the_first_line_of_a_password_file_counts(tmp_path):
    file = tmp_path / "password"
    file.write_text(" p@ss/word \r\nold one\n")
    assert open_engine("postgresql://ann@host/db", file).url.password == " p@ss/word "


def test_a_relative_path_stays_where_it_was_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = open_engine("sqlite:///a.db")
    os.chdir("/")
    with engine.connect():
        assert (tmp_path / "a.db").exists()
    engine.dispose()


def test_looking_at_flags_does_not_wait_for_what_it_does_not_need():
    script = (
        "import sys, anomaly.store; "
        "print([name for name in ('pandas', 'alembic', 'scipy') if name in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
