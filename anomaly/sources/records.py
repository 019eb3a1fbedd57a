"""Small tables of text, read whole, in which every cell knows its place."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from anomaly.exceptions import DataError, SourceError
from anomaly.sources.parquet import PARQUET_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LONGEST_SHOWN = 80  # characters of a cell in a message


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's trimmed text, with the file, row (the header is row 1; None: there is but one) and column
    it stands in.
    """

    text: str
    file: str
    row: int | None
    column: str

    @property
    def place(self) -> str:
        """The file, and the row in it."""
        return self.file if self.row is None else f"{self.file} row {self.row}"

    def refused(self, why: str) -> DataError:
        """The error that says what is wrong with it."""
        shown = self.text[:LONGEST_SHOWN]
        column = self.column if self.row is None else f"column {self.column}"
        between = " " if self.row is None else ", "
        return DataError(f"{self.place}{between}{column}: {shown!r} {why}")


def read_records(path: Path, required: Sequence[str]) -> Iterator[dict[str, Cell]]:
    """The rows of a CSV or Parquet file, by column.

    Raises: SourceError if it cannot be opened; DataError if it is empty, damaged, no UTF-8 text,
        has a row of another length, or lacks a required column.
    """
    names, rows = _table(path)
    for column in required:
        if column not in names:
            raise DataError(
                f"{path.name}: there is no column {column!r}, only {', '.join(names[:20])}. "
                "Rename one."
            )
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(names):
            raise DataError(
                f"{path.name} row {number}: {len(row)} fields, expected {len(names)}. Mend the row."
            )
        yield {
            name: Cell(text.strip(), path.name, number, name)
            for name, text in zip(names, row, strict=True)
        }


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns. Raises: as `read_records`."""
    return _table(path)[0]


def read_bytes(path: Path) -> bytes:
    """All of a small file. Raises: SourceError if it cannot be opened; DataError if it is empty."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its rights."
        ) from error
    if not content.strip():
        raise DataError(f"{path.name}: the file is empty.")
    return content


def decoded(content: bytes, name: str) -> str:
    """Text of a file. Raises: DataError if it is not UTF-8, naming the line."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name} line {line}: no UTF-8 text. Convert the file, for example with "
            "iconv -f latin1 -t utf-8."
        ) from error


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    content = read_bytes(path)
    if content.startswith(PARQUET_MAGIC):
        return _parquet(content, path.name)
    text = decoded(content, path.name)
    first_line = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=first_line.count)
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    return [name.strip() for name in rows[0]], rows[1:]


def _parquet(content: bytes, name: str) -> tuple[list[str], list[list[str]]]:
    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{name}: no readable Parquet file. It may be damaged or cut short: write it again."
        ) from error
    columns = [
        ["" if cell is None else str(cell) for cell in column.to_pylist()]
        for column in table.columns
    ]
    return table.column_names, [list(row) for row in zip(*columns, strict=True)]
