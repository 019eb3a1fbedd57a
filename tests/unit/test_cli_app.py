"""The command line itself: what it offers, what it says of errors, how quickly it starts."""

import subprocess
import sys

import pytest

from pipelines.cli.app import run

COMMANDS = (
    "demo init check plan import run backfill detect flags users report models selftest state "
    "retention notify audit key token cohorts erase reveal serve schedule db"
).split()
SUBCOMMANDS = {
    "flags": ["list", "show", "export", "label"],
    "users": ["list"],
    "models": ["list", "compare", "promote", "rollback"],
    "state": ["rebuild"],
    "notify": ["test"],
    "audit": ["verify", "list"],
    "key": ["create", "rotate"],
    "token": ["create", "list", "revoke"],
    "cohorts": ["list", "show", "move", "moved"],
    "db": ["upgrade", "downgrade", "check", "sweep"],
}
HEAVY = {"tensorflow", "keras", "sklearn", "plotly", "fastapi", "onnxruntime"}


@pytest.fixture(autouse=True)
def _as_before(tmp_path, monkeypatch, logging_as_before):
    monkeypatch.chdir(tmp_path)


def test_help_names_every_command(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    offered = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert set(COMMANDS) <= set(offered)
    assert "--config" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does(command, capsys):
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"anomaly {command}" in text
    for inner in SUBCOMMANDS.get(command, []):
        assert f"  {inner} " in text
        assert run([command, inner, "--help"]) == 0
        assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nonsense"], 2, "No such command"),
        (["run"], 2, "--month"),
        (["run", "--month", "March"], 2, "error: month 'March' is no month"),
        (["--config", "nowhere.toml", "db", "check"], 2, "error: nowhere.toml: cannot be read"),
        (["flags", "list"], 3, "Run: anomaly db upgrade"),
        (["flags", "export", "--format", "table"], 2, "a table is: flags list"),
        (["import"], 2, "error: import: nothing to import"),
        (["detect", "nowhere.csv"], 3, "error: nowhere.csv: there is no such file"),
        (["detect", "x.csv", "--flags-out", "f.xlsx"], 2, "its suffix names no format"),
        (["detect", "x.csv", "--freq", "7min"], 2, "--freq: [grid] step: step '7min'"),
        (["detect", "x.csv", "--columns", "who=x"], 2, "error: "),
        (["schedule", "--once", "scroe"], 3, "anomaly db upgrade"),
    ],
)
def test_errors_are_messages_with_an_exit_code(arguments, code, message, capsys):
    assert run(arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_setting_that_would_be_passed_over_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("ANOMALY_PRIVACY__PSEUDONYMISE", "true")
    assert run(["flags", "list"]) == 2
    assert "[privacy] pseudonymise needs a key" in capsys.readouterr().err


def test_an_unexpected_error_is_short_unless_asked_for(capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("pipelines.services.open_database", broken)
    assert run(["db", "check"]) == 1
    error = capsys.readouterr().err
    assert "error: unexpected RuntimeError: the sky fell" in error
    assert "open_database" not in error
    monkeypatch.setenv("ANOMALY_TELEMETRY__LOG_LEVEL", "debug")
    assert run(["db", "check"]) == 1
    assert "unexpected_error" in capsys.readouterr().err


def test_init_writes_settings_and_keeps_those_there_are(tmp_path, capsys):
    assert run(["init"]) == 0
    assert (tmp_path / "anomaly.toml").read_text().startswith("# Settings of anomaly")
    assert run(["init"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["init", "--config", "other.toml"]) == 0
    assert (tmp_path / "other.toml").exists()
    assert run(["init", "--out", "another.toml"]) == 0
    assert run(["init", "--out", "another.toml"]) == 2
    assert (tmp_path / "another.toml").read_text() == (tmp_path / "anomaly.toml").read_text()


def test_the_schema_goes_up_and_down(tmp_path, capsys):
    assert run(["db", "check"]) == 3
    assert run(["db", "upgrade"]) == 0
    assert run(["db", "check"]) == 0
    assert run(["db", "upgrade"]) == 0
    assert run(["db", "downgrade", "base"]) == 0
    assert run(["db", "check"]) == 3
    assert (tmp_path / "anomaly.db").exists()
    assert "at nothing" in capsys.readouterr().out


def test_the_version_is_said(capsys):
    import anomaly

    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == anomaly.__version__


def test_starting_is_quick_since_nothing_heavy_is_imported():
    code = (
        "import sys; from pipelines.cli.app import run\n"
        "for command in (['--help'], ['db', 'upgrade'], ['flags', 'list']):\n"
        "    print('ended', run(command), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ended = [line.split() for line in done.stdout.splitlines() if line.startswith("ended ")]
    assert [line[1] for line in ended] == ["0"] * 3
    assert all(HEAVY.isdisjoint(loaded) for loaded in ended)
