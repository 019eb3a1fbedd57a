"""CSV files, read block by block."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from anomaly.exceptions import DataError
from anomaly.rows import SCHEMA
from anomaly.sources.batch import LONGEST_TEXT, Batch, Reject
from anomaly.sources.cleaning import Raw, melted, repeated_column
from anomaly.sources.layout import Layout, find_layout
from anomaly.sources.parsing import CODES, GOOD, SUBSTITUTE, parse_values, shown, with_commas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from anomaly.sources.cleaning import Cleaner

BLOCK_BYTES = 16 * 2**20  # some 400,000 rows; everything held at once is a few times this
LONGEST_HEADER = 2**20
GZIP_MAGIC = b"\x1f\x8b"
DELIMITERS = (",", ";", "\t", "|")
ESCAPED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, as Python escapes them
WORDS = pa.dictionary(pa.int32(), pa.binary())


def read_csv(
    path: Path, columns: Mapping[str, str] | None, metric: str | None, cleaner: Cleaner
) -> Iterator[Batch]:
    """Read a CSV file, plain or compressed by gzip, with a header.

    Memory: a few times BLOCK_BYTES. The delimiter is found from the header.
    Raises: DataError if the file is empty, cut short, no UTF-8 text, or lacks a column.
    """
    names, delimiter = _header(path)
    layout = find_layout(path.name, names, columns, metric, user=path.name.split(".")[0])
    reader = _Reader(path, names, delimiter, layout, cleaner)
    return reader.batches()


class _Reader:
    """One pass over one file; counts records, so that each row knows its number."""

    def __init__(
        self, path: Path, names: list[str], delimiter: str, layout: Layout, cleaner: Cleaner
    ) -> None:
        self._path = path
        self._names = names
        self._delimiter = delimiter
        self._layout = layout
        self._cleaner = cleaner
        self._metrics: list[str] | None = None  # of a wide file: its columns of numbers
        self._malformed: list[int] = []  # numbers of the rows with too many or too few fields
        self._waiting: list[Reject] = []
        self._parsed = 0  # rows that pyarrow has handed over

    def batches(self) -> Iterator[Batch]:
        try:
            with _open(self._path) as file:
                text = _Text(file)
                for block in self._blocks(text):
                    yield self._batch(block)
                if text.odd:
                    self._report_lost_end()
        except (pa.ArrowException, EOFError, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self._path.name}: no readable CSV after row {self._parsed + 1} "
                f"({_first_line(error)}). It may be cut short or no CSV: write it again."
            ) from error
        if self._waiting:
            yield Batch(SCHEMA.empty_table(), self._take_waiting())

    def _blocks(self, file: _Text) -> Iterator[pa.RecordBatch]:
        types: dict[str, pa.DataType] = dict.fromkeys(self._layout.columns, pa.binary())
        for name in (self._layout.user_id, self._layout.metric):
            if name is not None:
                types[name] = WORDS
        reader: Iterator[pa.RecordBatch] = pacsv.open_csv(
            pa.PythonFile(file, mode="r"),
            # Threads would lose the numbers of malformed rows.
            pacsv.ReadOptions(
                use_threads=False, block_size=BLOCK_BYTES, column_names=self._names, skip_rows=1
            ),
            pacsv.ParseOptions(
                delimiter=self._delimiter,
                newlines_in_values=True,
                ignore_empty_lines=False,
                invalid_row_handler=self._set_aside,
            ),
            pacsv.ConvertOptions(column_types=types, include_columns=self._layout.columns),
        )
        return reader

    def _set_aside(self, row: Any) -> str:
        self._malformed.append(row.number)
        self._waiting.append(
            Reject(
                f"{self._path.name} row {row.number}",
                "wrong_field_count",
                shown(row.text)[:LONGEST_TEXT],
            )
        )
        return "skip"

    def _take_waiting(self) -> list[Reject]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _batch(self, block: pa.RecordBatch) -> Batch:
        first = self._parsed
        self._parsed += len(block)
        filled = _filled(block)
        if len(filled) < len(block):
            block = block.take(pa.array(filled))
        batch = self._cleaner.clean(
            self._raw(block, lambda place: self._row(first + int(filled[place])))
        )
        return replace(batch, rejects=self._take_waiting() + batch.rejects, passed=self._passed())

    def _raw(self, block: pa.RecordBatch, locate: Any) -> Raw:
        layout = self._layout
        user = (
            block[layout.user_id]
            if layout.user_id is not None
            else repeated_column(layout.default_user, len(block))
        )
        if layout.wide:
            metrics = self._metrics or self._number_columns(block, locate)
            self._metrics = metrics
            values = {name: block[name] for name in metrics}
            return melted(user, block[layout.observed_at], values, locate)
        metric = (
            block[layout.metric]
            if layout.metric is not None
            else repeated_column(layout.default_metric, len(block))
        )
        return Raw(user, metric, block[layout.observed_at], block[layout.values[0]], locate)

    def _passed(self) -> tuple[str, ...]:
        """The columns that nothing is read of."""
        layout = self._layout
        values = layout.values if self._metrics is None else self._metrics
        read = {layout.user_id, layout.metric, layout.observed_at, *values}
        return tuple(name for name in self._names if name not in read)

    def _number_columns(self, block: pa.RecordBatch, locate: Any) -> list[str]:
        """The columns of a wide file that are metrics: mostly numbers where they hold anything.

        Raises: DataError if there is none, or one would be if its numbers had no commas.
        """
        metrics = []
        for name in self._layout.values:
            reasons = parse_values(block[name])[1]
            if reasons is None or _mostly_numbers(reasons):
                metrics.append(name)
            else:
                self._refuse_commas(name, block[name], reasons, locate)
        if not metrics:
            raise DataError(
                f"{self._path.name}: no column of numbers among {', '.join(self._layout.values[:20])}. "
                "Give metrics as columns of numbers, or name a value column."
            )
        return metrics

    def _refuse_commas(
        self, name: str, column: pa.Array, reasons: NDArray[np.int8], locate: Any
    ) -> None:
        commas = with_commas(column)
        if not _mostly_numbers(np.where(commas, GOOD, reasons)):
            return
        first = int(np.flatnonzero(commas)[0])
        raise DataError(
            f"{locate(first)}, column {name}: {shown(column[first].as_py())!r} looks like a number with "
            "a comma. Write numbers with a point and nothing between thousands (2.5, 1200), or leave "
            "the column out."
        )

    def _row(self, parsed: int) -> str:
        """The place of a row pyarrow handed over: malformed rows before it count too."""
        malformed = np.array(self._malformed, dtype=np.int64)
        before = np.searchsorted(malformed - np.arange(len(malformed)) - 2, parsed, side="right")
        return f"{self._path.name} row {parsed + int(before) + 2}"

    def _report_lost_end(self) -> None:
        """Set aside a last row that opens a quote and never closes it; pyarrow drops it silently."""
        records, last = 0, [""]
        with (
            _open(self._path) as file,
            io.TextIOWrapper(file, "utf-8", errors="replace", newline="") as lines,
        ):
            try:
                for record in csv.reader(lines, delimiter=self._delimiter):
                    records, last = records + 1, record
            except csv.Error:  # a field beyond csv.field_size_limit: the rest of the file
                records += 1
        if records > 1 + self._parsed + len(self._malformed):
            text = self._delimiter.join(last)[:LONGEST_TEXT]
            place = f"{self._path.name} row {records}"
            self._waiting.append(Reject(place, "wrong_field_count", text))


class _Text:
    """A file's bytes with SUBSTITUTE for each that is no UTF-8; notes whether quotes are odd.

    pyarrow loses malformed rows that are not UTF-8, and a last row whose quote is never closed.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.odd = False
        self.closed = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        text = ""
        while not text:
            # Up to three bytes of a character begun before come on top.
            data = self._file.read(max(size - 3, 1))
            text = self._decoder.decode(data, final=not data)
            if not data:
                break
        if not text.isascii():
            text = ESCAPED.sub(SUBSTITUTE, text)
        self.odd ^= bool(text.count('"') % 2)
        return text.encode()

    def close(self) -> None:
        """Say so to pyarrow; whoever opened the file closes it."""
        self.closed = True

    def readable(self) -> bool:
        """Yes: pyarrow asks."""
        return True


def _open(path: Path) -> BinaryIO | gzip.GzipFile:
    with path.open("rb") as file:
        compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path) if compressed else path.open("rb")


def _header(path: Path) -> tuple[list[str], str]:
    """Column names and the delimiter."""
    try:
        with _open(path) as file:
            start = file.readline(LONGEST_HEADER)
    except (EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path.name}: no readable gzip file ({error}). Write it again.") from error
    if not start.strip():
        raise DataError(f"{path.name}: the file is empty. Give a CSV file with a header.")
    try:
        line = start.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} row 1: the header is no UTF-8 text ({error.reason}). Convert the file to "
            "UTF-8, for example with iconv -f latin1 -t utf-8."
        ) from error
    if "\0" in line:
        raise DataError(f"{path.name} row 1: holds NUL bytes. Convert the file to UTF-8 text.")
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter))
    return [name.strip() for name in names], delimiter


def _filled(block: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of the rows that are not blank lines."""
    blank = np.ones(len(block), dtype=np.bool_)
    for column in block.columns:
        if not blank.any():
            break
        if pa.types.is_dictionary(column.type):
            empty = pc.equal(pc.binary_length(column.dictionary), 0).take(column.indices)
        else:
            empty = pc.equal(pc.binary_length(column), 0)
        blank &= empty.to_numpy(zero_copy_only=False).astype(np.bool_)
    return np.flatnonzero(~blank)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _mostly_numbers(reasons: NDArray[np.int8]) -> bool:
    """Whether no more than half of the cells that hold anything are text."""
    filled, text = reasons != CODES["missing_value"], reasons == CODES["unreadable_value"]
    return bool(2 * text.sum() <= filled.sum())
