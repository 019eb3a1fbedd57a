"""A database of an earlier version, upgraded: what was known is still known, to the last byte.

tests/upgrades/REVISION holds what the code of that time wrote: `anomaly.sql.gz`, a dump after two months
were run and, last of all, one flag was labelled; `anomaly-artefacts`, its models; `flags.csv` and `users.csv`, exported
by it before that. That of 0017 knows a leave, departments, a suppression, a token and an audit too, and
has scored one month twice; what it knew of users was left out, as large as it is and rebuilt from history.
"""

from __future__ import annotations

import gzip
import io
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from anomaly.exceptions import ModelError
from anomaly.model import Model
from anomaly.store import open_engine, schema
from anomaly.store.artefacts import Artefacts

EARLIER = sorted((Path(__file__).parents[1] / "upgrades").glob("[0-9]*"))
SAID_LATER = ("status", "label")  # one flag was labelled after the export
SETTINGS = """
[grid]
step = "6h"
[model]
units = 4
steps = 20
batch = 16
truncate_steps = 24
"""


@pytest.fixture(params=EARLIER, ids=lambda folder: folder.name)
def earlier(request) -> Path:
    return request.param


@pytest.fixture
def folder(earlier, tmp_path) -> Path:
    """The database as it was left, with its models and settings."""
    with sqlite3.connect(tmp_path / "anomaly.db") as database:
        database.executescript(gzip.decompress((earlier / "anomaly.sql.gz").read_bytes()).decode())
    shutil.copytree(earlier / "anomaly-artefacts", tmp_path / "anomaly-artefacts")
    (tmp_path / "anomaly.toml").write_text(SETTINGS)
    return tmp_path


def anomaly(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_nothing_is_lost_and_nothing_changes(earlier, folder):
    refused = anomaly(folder, "flags", "list", code=3)
    assert f"is at {earlier.name}, this version needs {schema.head()}" in refused
    anomaly(folder, "db", "upgrade")
    anomaly(folder, "db", "check")
    assert "none altered, removed or moved" in anomaly(folder, "audit", "verify")
    for name, command in (("flags.csv", ("flags", "export")), ("users.csv", ("users", "list"))):
        before = pd.read_csv(earlier / name)
        told = anomaly(folder, *command, "--month", "2026-03", "--format", "csv")
        after = pd.read_csv(io.StringIO(told))
        assert list(after.columns[: len(before.columns)]) == list(before.columns), name
        kept = [name for name in before.columns if name not in SAID_LATER]
        pd.testing.assert_frame_equal(after[kept], before[kept], check_exact=True)
        assert len(before) > 0
    with sqlite3.connect(folder / "anomaly.db") as database:
        (note,) = database.execute("select note from feedback order by id desc").fetchone()
        states = dict(database.execute("select month, state from runs where job = 'month'"))
    assert note == "kept over an upgrade"
    assert states == {"2026-02": "complete", "2026-03": "complete"}


def test_its_models_load_or_a_run_says_why_it_trains_anew(folder):
    engine = open_engine(f"sqlite:///{folder}/anomaly.db", None)
    schema.upgrade(engine)
    engine.dispose()
    with sqlite3.connect(folder / "anomaly.db") as database:
        rows = database.execute("select address, sha256 from models").fetchall()
    assert rows
    for address, sha256 in rows:
        files = Artefacts(folder / "anomaly-artefacts").read(address, sha256)
        try:
            assert Model.from_files(files).metrics == ("files_read", "logins")
        except ModelError as error:
            assert "Train again" in str(error)
    settings = folder / "anomaly.toml"
    settings.write_text(SETTINGS + 'cell = "none"\n')  # the twin alone is learnt in seconds
    told = anomaly(folder, "run", "--month", "2026-03", "--force")
    assert '"event": "training_due"' in told
    assert "2026-03 complete" in told


def test_the_way_back_keeps_what_the_earlier_version_knows(earlier, folder):
    engine = open_engine(f"sqlite:///{folder}/anomaly.db", None)
    with sqlite3.connect(folder / "anomaly.db") as database:
        of_then = database.execute(
            "select name from sqlite_master where type = 'table' and name <> 'alembic_version'"
        ).fetchall()
    assert len(of_then) > 10

    def counts() -> dict[str, int]:
        with sqlite3.connect(folder / "anomaly.db") as database:
            return {
                table: database.execute(f"select count(*) from {table}").fetchone()[0]
                for (table,) in of_then
            }

    before = counts()
    schema.upgrade(engine)
    schema.downgrade(engine, earlier.name)
    assert schema.current(engine) == earlier.name
    assert counts() == before
    engine.dispose()
