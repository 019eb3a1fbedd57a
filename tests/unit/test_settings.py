"""Settings: where they come from, what is refused, and what names a configuration."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.exceptions import SettingsError
from anomaly.settings import (
    RESULT_SECTIONS,
    MetricSettings,
    ScheduleSettings,
    Settings,
    configuration_hash,
    load,
    template,
    with_values,
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "anomaly.toml"


def test_without_file_and_variables_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(environ={}) == Settings()


def test_the_file_in_this_folder_is_read(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    file.write_text('[grid]\nstep = "1D"\n')
    assert load(environ={}).grid.step == "1D"


def test_a_named_file_goes_before_the_variable_and_that_before_this_folder(
    file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, step in (("anomaly.toml", "1D"), ("b.toml", "6h"), ("c.toml", "5min")):
        (tmp_path / name).write_text(f'[grid]\nstep = "{step}"\n')
    assert load(environ={"ANOMALY_CONFIG": "b.toml"}).grid.step == "6h"
    assert load(tmp_path / "c.toml", {"ANOMALY_CONFIG": "b.toml"}).grid.step == "5min"


def test_the_environment_overrides_the_file(file):
    file.write_text('[database]\nurl = "sqlite:///a.db"\nretries = 2\n[model]\nunits = 8\n')
    environ = {
        "ANOMALY_DATABASE__URL": "sqlite:///b.db",
        "ANOMALY_MODEL__UNITS": "16",
        "ANOMALY_NOTIFY__URLS": '["json://x"]',
        "ANOMALY_METRIC__LOGONS__KIND": "count",
        "ANOMALY_SHARED": "belongs to somebody else",
        "PATH": "/bin",
    }
    settings = load(file, environ)
    assert (settings.database.url, settings.database.retries) == ("sqlite:///b.db", 2)
    assert settings.model.units == 16
    assert settings.notify.urls == ["json://x"]
    assert settings.metric["logons"].kind == "count"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[databse]\nurl = "x"', r"\[databse\] is no setting. Did you mean \[database\]\?"),
        (
            '[database]\nulr = "x"',
            r"\[database\] ulr is no setting. Did you mean \[database\] url\?",
        ),
        ("[run]\nzzz = 1", r"\[run\] zzz is no setting. Known: engine, workers, "),
        (
            '[metric.a]\nkin = "count"',
            r"\[metric.a\] kin is no setting. Did you mean \[metric.a\] kind",
        ),
        ('[metric.a]\nkind = "cuont"', r"\[metric.a\] kind: Input should be 'count', 'gauge' or"),
        ("[metric]\na = 3", r"\[metric\] a: Input should be a valid dictionary"),
        ("database = 3", r"\[database\]: Input should be a valid dictionary"),
        ('[grid]\nstep = "7min"', r"\[grid\] step: step '7min' does not divide a day"),
        ('[grid]\nstep = "2D"', "does not divide a day"),
        ('[grid]\nstep = "often"', r"\[grid\] step: duration 'often' is none"),
        ('[grid]\ntimezone = "Mars/X"', r"\[grid\] timezone: time zone 'Mars/X' is not known"),
        ('[source]\ntimezone = "Berlin"', r"\[source\] timezone"),
        ('[schedule]\ntimezone = ""', r"\[schedule\] timezone"),
        ('[run]\nlease = "0s"', r"\[run\] lease: duration '0s' is none"),
        ('[run]\nlateness = "-1d"', r"\[run\] lateness"),
        ("[source]\noverlap = 3", r"\[source\] overlap: Input should be a valid string"),
        ('[model]\nhorizon = "soon"', r"\[model\] horizon: duration 'soon' is none"),
        ('[schedule]\nscore = "daily"', r"\[schedule\] score: cron expression 'daily' is none"),
        ('[schedule]\nscore = "60 2 * * *"', "cron expression"),
        ('[schedule]\nscore = "0 2 * * 8"', "cron expression"),
        ('[schedule]\nscore = "0 2 * * */0"', "cron expression"),
        ('[schedule]\nscore = "0 2 1-2-3 * *"', "cron expression"),
        ("[model]\nunits = 1", r"\[model\] units: Input should be greater than or equal to 4"),
        ("[model]\nunits = 'many'", r"\[model\] units: Input should be a valid integer"),
        ("[model", "is no TOML"),
        ("\x00", "is no TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_file_and_key(file, text, message):
    file.write_text(text)
    with pytest.raises(SettingsError, match=message) as refused:
        load(file, {})
    assert str(refused.value).startswith(f"{file}: ")
    assert refused.value.exit_code == 2


def test_all_wrong_values_are_named_at_once(file):
    file.write_text("[run]\nshard_users = 0\n[grid]\nstep = 'soon'\n")
    with pytest.raises(SettingsError) as refused:
        load(file, {"ANOMALY_MODEL__SEED": "-1"})
    step, shards, seed = sorted(str(refused.value).split("; "))
    assert step.startswith(f"{file}: [grid] step: ")
    assert shards.startswith(f"{file}: [run] shard_users: ")
    assert seed.startswith("ANOMALY_MODEL__SEED: [model] seed: ")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "ANOMALY_DATABASE__ULR",
            "x",
            r"\[database\] ulr is no setting. Did you mean \[database\] url",
        ),
        ("ANOMALY_DATABSE__URL", "x", r"\[databse\] is no setting. Did you mean \[database\]"),
        ("ANOMALY_RUN__SHARD_USERS", "0", r"\[run\] shard_users: Input should be greater"),
        ("ANOMALY_GRID__TIMEZONE__X", "0", r"\[grid\] timezone"),
        ("ANOMALY_NOTIFY__URLS", "[1", r"\[notify\] urls"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_name(tmp_path, monkeypatch, variable, value, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=message) as refused:
        load(environ={variable: value})
    assert str(refused.value).startswith(f"{variable}: ")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="nowhere.toml: cannot be read .*anomaly init"):
        load(tmp_path / "nowhere.toml", {})


def test_a_file_that_is_no_text_is_refused(file):
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no TOML"):
        load(file, {})


@pytest.mark.parametrize(
    "cron", ["*/15 * * * *", "0 2 1 * *", "30 2 * jan-mar mon-fri", "0 0,12 1-7/2 * 0"]
)
def test_cron_expressions_that_are_taken(cron):
    assert Settings.model_validate({"schedule": {"score": cron}}).schedule.score == cron


SHAPING = {
    "grid": {"step": "6h"},
    "metric": {"logons": {"minimum": 3}},
    "calendar": {"country": "DE"},
    "cohorts": {"count": 3},
    "model": {"seed": 1},
    "scan": {"own_history": False},
    "threshold": {"kind": "fdr"},
}
INDIFFERENT = {
    "database": {"url": "sqlite:///other.db"},
    "source": {"url": "sqlite:///x.db", "table": "t"},
    "feedback": {"margin": 2.0, "keep": "30d", "refit": False},
    "schedule": {"timezone": "Europe/Berlin"},
    "run": {"workers": 3, "shard_users": 7, "lateness": "9d", "artefacts": "/models"},
    "web": {"port": 1},
    "telemetry": {"log_level": "debug"},
    "notify": {"urls": ["a"]},
    "privacy": {"pseudonymise": True},
    "retention": {"observations_months": 3},
}


def test_the_configuration_is_named_by_what_shapes_a_result_alone():
    assert set(SHAPING) == set(RESULT_SECTIONS)
    assert set(SHAPING) | set(INDIFFERENT) == set(Settings.model_fields)
    usual = configuration_hash(Settings())
    # A changed default gives every flag another id.
    assert usual == "f5948dc649ff2bf9"  # pragma: allowlist secret
    hashes = {
        configuration_hash(Settings.model_validate({name: value}))
        for name, value in SHAPING.items()
    }
    assert len(hashes | {usual}) == len(SHAPING) + 1
    for name, value in INDIFFERENT.items():
        assert configuration_hash(Settings.model_validate({name: value})) == usual


def test_writing_a_default_out_changes_no_flag_id():
    assert configuration_hash(
        Settings.model_validate({"grid": {"step": "1h"}})
    ) == configuration_hash(Settings())


def test_values_are_changed_with_the_rest_kept():
    settings = Settings.model_validate({"grid": {"timezone": "Europe/Berlin"}})
    changed = with_values(settings, "--freq", "grid", step="1D")
    assert (changed.grid.timezone, changed.grid.step) == ("Europe/Berlin", "1D")
    assert settings.grid.step == "1h"
    assert "step" not in settings.grid.model_fields_set
    assert changed.grid.model_fields_set == {"timezone", "step"}
    with pytest.raises(
        SettingsError, match=r"--freq: \[grid\] step: step '7h' does not divide a day"
    ):
        with_values(settings, "--freq", "grid", step="7h")


def test_the_template_changes_nothing_and_shows_every_setting(file):
    file.write_text(template())
    assert load(file, {}) == Settings()
    lines = template().splitlines()
    for name, section in {**Settings.model_fields, "metric": None}.items():
        model = MetricSettings if section is None else section.annotation
        if name != "metric":
            assert f"[{name}]" in lines
        for key, field in model.model_fields.items():
            found = [
                line
                for line in lines
                if line.startswith(f"# {key} = ") and field.description in line
            ]
            assert found, (name, key)


def test_each_default_in_the_template_can_be_written_out(file):
    lines = template().splitlines()
    settings = [line for line in lines if line.startswith(("[", "# [")) or " = " in line]
    written = [line.removeprefix("# ") for line in settings if ' = "" ' not in line]
    text = "\n".join(line for line in written if not line.startswith("Lines"))
    file.write_text(text.replace("[metric.NAME]", "[metric.logons]"))
    assert tomllib.loads(file.read_text())
    assert load(file, {}).model == Settings().model


@given(st.text(max_size=40))
def test_no_text_breaks_reading_an_expression(text):
    try:
        schedule = ScheduleSettings.model_validate({"score": text})
    except ValueError as refused:
        assert "cron expression" in str(refused)
    else:
        assert len(schedule.score.split()) == 5
