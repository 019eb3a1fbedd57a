"""What is written out is text: no spreadsheet runs it, no terminal obeys it."""

import csv

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipelines.cli.output import Format, _cell, write

HOSTILE = ["=1+2", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\N{FULLWIDTH EQUALS SIGN}1"]
HARMLESS = ["ann", "a=1", "", " x", "'=1", "grüße", "a-b"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_csv_holds_no_formula(tmp_path, kind):
    names = pa.array([*HOSTILE, *HARMLESS, None], kind)
    table = pa.table({"user_id": names, "n": range(len(names))})
    write(table, Format.csv, tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="", encoding="utf-8") as file:
        found = [row[0] for row in csv.reader(file)][1:]
    assert found[: len(HOSTILE)] == [f"'{name}" for name in HOSTILE]
    assert found[len(HOSTILE) : -1] == HARMLESS


def test_numbers_stay_numbers(tmp_path):
    write(pa.table({"score": [-1.5], "n": [-2]}), Format.csv, tmp_path / "f.csv")
    assert (tmp_path / "f.csv").read_text() == "score,n\n-1.5,-2\n"


def test_programs_get_names_as_they_are(tmp_path):
    table = pa.table({"user_id": HOSTILE})
    write(table, Format.parquet, tmp_path / "f.parquet")
    assert parquet.read_table(tmp_path / "f.parquet")["user_id"].to_pylist() == HOSTILE


def test_a_name_steers_no_terminal():
    assert "\x1b" not in _cell("ann\x1b[2J\r\nroot")
