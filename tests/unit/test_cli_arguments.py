"""What is typed, and what is written."""

import datetime as dt
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from anomaly.exceptions import SourceError, UsageError
from pipelines.cli import output
from pipelines.cli.app import take_config
from pipelines.cli.arguments import instant_of, one_of, users_of
from pipelines.cli.output import Format
from pipelines.cli.progress import Lines

WHEN = dt.datetime(2026, 3, 1, 5, tzinfo=dt.UTC)
TABLE = pa.table(
    {
        "who": ['a"b', "c,\nd", "😀"],
        "when": pa.array([WHEN, None, WHEN], pa.timestamp("us", "UTC")),
        "score": [1.5, float("nan"), float("inf")],
        "flags": [1, 2, None],
    }
)


@pytest.mark.parametrize(
    ("arguments", "config", "rest"),
    [
        (["run", "--month", "m"], None, ["run", "--month", "m"]),
        (["--config", "a.toml", "run"], "a.toml", ["run"]),
        (["run", "--config", "a.toml", "--force"], "a.toml", ["run", "--force"]),
        (["run", "--config=a.toml"], "a.toml", ["run"]),
        (["flags", "show", "--", "--config", "x"], None, ["flags", "show", "--", "--config", "x"]),
    ],
)
def test_the_settings_file_may_be_named_anywhere(arguments, config, rest):
    found, others = take_config(arguments)
    assert (None if found is None else str(found), others) == (config, rest)


def test_a_settings_file_that_is_not_named_is_missed():
    with pytest.raises(UsageError, match="--config names no file"):
        take_config(["run", "--config"])


def test_times_without_an_offset_are_local():
    assert instant_of("--t", "2026-03-01", "America/New_York") == WHEN
    assert instant_of("--t", "2026-03-01T06:00+01:00", "America/New_York") == WHEN
    assert instant_of("--t", None, "UTC") is None
    with pytest.raises(UsageError, match="--t 'soon' is no time"):
        instant_of("--t", "soon", "UTC")


def test_an_unknown_word_is_refused_with_the_nearest():
    assert one_of("--s", "high", ("low", "high")) == "high"
    assert one_of("--s", None, ("low", "high")) is None
    with pytest.raises(UsageError, match="--s 'hihg' is not known. Did you mean high"):
        one_of("--s", "hihg", ("low", "high"))
    with pytest.raises(UsageError, match="Known: low, high"):
        one_of("--s", "x", ("low", "high"))


def test_users_come_by_commas_or_lines(tmp_path):
    file = tmp_path / "users.txt"
    file.write_text("a,b\n\n c \n")
    assert users_of("a, b,,c") == ("a", "b", "c")
    assert users_of(f"@{file}") == ("a,b", "c")
    assert users_of(None) == ()
    with pytest.raises(UsageError, match="the file cannot be read"):
        users_of(f"@{tmp_path / 'nowhere'}")


def test_csv_quotes_what_needs_it_and_writes_times_in_utc(tmp_path):
    out = tmp_path / "t.csv"
    output.write(TABLE, Format.csv, out)
    assert out.read_text() == (
        'who,when,score,flags\n"a""b","2026-03-01T05:00:00Z",1.5,1\n"c,\nd",,,2\n'
        '"😀","2026-03-01T05:00:00Z",,\n'
    )


def test_json_is_an_array_of_records(tmp_path):
    out = tmp_path / "t.json"
    output.write(TABLE, Format.json, out)
    assert json.loads(out.read_text()) == [
        {"who": 'a"b', "when": "2026-03-01T05:00:00Z", "score": 1.5, "flags": 1},
        {"who": "c,\nd", "when": None, "score": None, "flags": 2},
        {"who": "😀", "when": "2026-03-01T05:00:00Z", "score": None, "flags": None},
    ]


def test_parquet_keeps_types(tmp_path):
    out = tmp_path / "t.parquet"
    output.write(TABLE, Format.parquet, out)
    assert parquet.read_table(out).schema == TABLE.schema


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    out = tmp_path / "t.csv"
    out.write_text("old")

    def fill(file):
        file.write(b"new")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        output.whole_file(out, fill)
    assert out.read_text() == "old"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="no/t.csv: cannot be written"):
        output.write(TABLE, Format.csv, tmp_path / "no" / "t.csv")


def test_the_suffix_names_the_format(tmp_path):
    assert output.format_of(tmp_path / "a.parquet") is Format.parquet
    with pytest.raises(UsageError, match="its suffix names no format"):
        output.format_of(tmp_path / "a.xlsx")


def test_off_a_terminal_progress_is_told_from_time_to_time(capsys):
    seconds = iter([0.0, 4.0, 11.0, 11.0, 12.0, 15.0])
    with Lines(lambda: next(seconds)).track("scoring", 3) as advance:
        advance(1)
        advance(1)
        advance(1)
    lines = [line for line in capsys.readouterr().out.splitlines() if "work" in line]
    assert len(lines) == 3
    assert "work_progress" in lines[1]
    assert "done=2" in lines[1]
    assert "done=3" in lines[2]
