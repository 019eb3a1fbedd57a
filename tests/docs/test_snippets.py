"""What the pages tell the reader to type works.

Pages that tell a story are run, line by line, each in a folder in which the first month has been lived
through. On all others (runbooks, deployment) every command of the product is held against its command
line, every statement is run on that month's database, every settings file is read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
import typer
import yaml
from typer.core import TyperCommand, TyperGroup

from anomaly.settings import Settings
from anomaly.simulation import make_world
from pipelines.cli.app import build, take_config

ROOT = Path(__file__).parents[2]
STORIES = ("your-database.md", "reading-a-flag.md", "migrating.md", "extending.md")
OTHERS = {
    "cp",
    "mkdir",
    "make",
    "python3.11",
    "docker",
    "kubectl",
    "curl",
    "ps",
    "kill",
    "pip",
    "promtool",
    "openssl",
    "apt-get",
    "systemctl",
    "psql",
}
CHAINS = {"&&", "|"}
MENTION = re.compile(r"`(anomaly [^`]+)`")
FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block. reason: why it cannot be run, or None."""

    page: str
    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[list[str]]:
        """Each by itself, also where several are joined in a line."""
        joined = self.text.replace("\\\n", " ")
        lines = [shlex.split(line, comments=True) for line in joined.splitlines()]
        parts = (groupby(line, key=CHAINS.__contains__) for line in lines)
        return [list(words) for one in parts for chain, words in one if not chain]


def blocks_of(path: Path) -> list[Block]:
    page = path.relative_to(ROOT / "docs").as_posix()
    return [
        Block(page, match["language"], match["text"], match["reason"])
        for match in FENCE.finditer(path.read_text())
    ]


PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCKS = [one for path in PAGES for one in blocks_of(path)]


def named(blocks: list[Block]):
    return [pytest.param(one, id=f"{one.page}-{place}") for place, one in enumerate(blocks)]


def of(*languages: str, marked: bool | None = None) -> list[Block]:
    return [
        one
        for one in BLOCKS
        if one.language in languages and marked in {None, one.reason is not None}
    ]


def run(folder: Path, arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 0, f"anomaly {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def command_of(arguments: list[str]) -> tuple[TyperCommand, list[str]]:
    """The command that is called, and what is left for it."""
    command = build()
    _, rest = take_config(arguments)
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        word, *rest = rest
        found = command.get_command(typer.Context(command), word)
        assert found is not None, f"there is no anomaly … {word}"
        command = found
    return command, rest


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Path:
    """Somebody else's database, and the files that other pages speak of."""
    folder = tmp_path_factory.mktemp("company")
    rows = make_world(users=60, months=3, start="2026-01", seed=11).observations.to_pandas()
    table = pd.DataFrame(
        {
            "employee": rows["user_id"],
            "what": rows["metric"],
            "at": rows["observed_at"].dt.strftime("%Y-%m-%d %H:%M:%S"),
            "amount": rows["value"],
        }
    )
    with sqlite3.connect(folder / "company.db") as connection:
        table.to_sql("activity", connection, index=False)
    table.to_csv(folder / "activity.csv", index=False)
    first = rows["user_id"].iloc[0]
    (folder / "users.csv").write_text(f"user_id,department\n{first},sales\n")
    (folder / "leave.csv").write_text(
        f"kind,start,end,user_id\nleave,2026-03-02,2026-03-06,{first}\n"
    )
    (folder / "features.csv").write_text("employee,day,mails,files\nada,2026-03-01,4,2\n")
    days = pd.date_range("2026-01-01", periods=90, freq="D")
    signal = pd.DataFrame(
        {"timestamp": days.as_unit("s").astype("int64"), "value": days.day_of_week}
    )
    signal.to_csv(folder / "signal.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def lived(company) -> Path:
    """docs/first-month.md, followed to the letter."""
    page = [one for one in BLOCKS if one.page == "first-month.md"]
    (settings,) = [one.text for one in page if one.language == "toml"]
    (company / "anomaly.toml").write_text(settings)
    before = (company / "company.db").read_bytes()
    shown = [one for one in page if one.language == "sh" and one.reason is None]
    commands = [line for one in shown for line in one.commands]
    assert len(commands) >= 8
    for name, *arguments in commands:
        assert name == "anomaly"
        run(company, arguments)
    assert (company / "company.db").read_bytes() == before
    return company


@pytest.mark.timeout(900)
def test_the_first_month_leads_to_flags(lived):
    flags = pd.read_csv(lived / "march.csv")
    with sqlite3.connect(lived / "anomaly.db") as connection:

        def count(view: str) -> int:
            statement = f"select count(*) from {view} where month = '2026-03'"
            return connection.execute(statement).fetchone()[0]

        assert len(flags) == count("flags_current")
        assert count("user_months_current") >= 50
    assert "2026-03" in (lived / "march.md").read_text()


def test_the_first_month_may_begin_with_a_file(company, tmp_path):
    (block,) = [one for one in BLOCKS if one.page == "first-month.md" and one.reason is not None]
    shutil.copy(company / "activity.csv", tmp_path)
    ((_, *arguments),) = block.commands
    run(tmp_path, ["db", "upgrade"])
    assert "set aside" not in run(tmp_path, arguments)
    users = "select count(distinct user_id) from observations"
    with sqlite3.connect(tmp_path / "anomaly.db") as connection:
        assert connection.execute(users).fetchone() == (60,)


@pytest.mark.timeout(600)
def test_the_readme_alone_leads_from_a_file_to_flags(company, tmp_path, monkeypatch):
    monkeypatch.setenv("ANOMALY_MODEL__CELL", "none")  # the first month trains a network
    shutil.copy(company / "activity.csv", tmp_path)
    told = re.findall(r"^    (anomaly .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(told) == 4
    said = [run(tmp_path, shlex.split(line)[1:]) for line in told]
    assert re.match(r"[1-9]\d* flags \(times in UTC\)", said[-1])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", STORIES)
def test_a_story_is_run_line_by_line(lived, page, tmp_path):
    folder = shutil.copytree(lived, tmp_path / "folder")
    told = [one for one in BLOCKS if one.page == page and one.reason is None]
    assert told
    for one in told:
        if one.language == "sh":
            for name, *arguments in one.commands:
                assert name == "anomaly"
                run(folder, arguments)
        elif one.language == "python":
            subprocess.run([sys.executable, "-c", one.text], check=True, cwd=folder)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", named(of("sql")))
def test_a_statement_is_understood_by_the_database(lived, block):
    with sqlite3.connect(f"file:{lived}/anomaly.db?mode=ro", uri=True) as connection:
        for statement in filter(str.strip, re.sub(r"--[^\n]*", "", block.text).split(";")):
            connection.execute(statement).fetchall()


@pytest.mark.parametrize("block", named(of("sh", "console", "bash")))
def test_a_command_is_one_of_the_products(block):
    for name, *arguments in block.commands:
        if Path(name).name != "anomaly":
            assert Path(name).name in OTHERS, name
            assert block.reason or name in {"curl", "ps", "kill", "promtool"}, (
                f"{name}: say why it is not run"
            )
            continue
        command, rest = command_of(arguments)
        with suppress(typer.Exit):  # --help
            command.make_context(command.name, rest)


@pytest.mark.parametrize(
    "path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_command_that_a_sentence_names_is_one_too(path):
    for mention in MENTION.findall(FENCE.sub("", path.read_text())):
        _, *arguments = shlex.split(mention)
        command, rest = command_of(arguments)
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        asked = {word.split("=")[0] for word in rest if word.startswith("--")}
        assert asked <= known | {"--help"}, mention


@pytest.mark.parametrize("block", named(of("toml")))
def test_a_settings_file_is_read(block):
    values = tomllib.loads(block.text)
    if "project" not in values:
        Settings.model_validate(values)


@pytest.mark.parametrize("block", named(of("python", marked=True)))
def test_a_program_that_cannot_be_run_is_one_all_the_same(block):
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("block", named(of("yaml", "json")))
def test_data_can_be_read(block):
    if block.language == "json":
        json.loads(block.text)
    else:
        assert list(yaml.safe_load_all(block.text))


def test_nothing_is_passed_over_in_silence():
    known = {"sh", "console", "bash", "sql", "python", "toml", "yaml", "json", "promql"}
    others = [one for one in BLOCKS if one.language not in known and one.reason is None]
    assert [(one.page, one.language, one.text[:40]) for one in others] == []
    assert len(BLOCKS) > 30
