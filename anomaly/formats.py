"""Tables as bytes for other programs: CSV, JSON and Parquet. Equal tables give equal bytes."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# How spreadsheets know a formula, also in full-width letters.
FORMULA = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
TIME = "%Y-%m-%dT%H:%M:%SZ"


def write_csv(table: pa.Table, file: IO[bytes]) -> None:
    """Times as ISO 8601 in UTC; no text that a spreadsheet would run."""
    options = csv.WriteOptions(quoting_style="needed", quoting_header="none")
    csv.write_csv(_without_formulas(_plain(table)), file, options)


def write_json(table: pa.Table, file: IO[bytes]) -> None:
    """An array of records."""
    records = _plain(table).to_pylist()
    file.write(json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    """Types as they are."""
    parquet.write_table(table, file, compression="zstd")


WRITERS: Mapping[str, Callable[[pa.Table, IO[bytes]], None]] = {
    "text/csv": write_csv,
    "application/json": write_json,
    "application/vnd.apache.parquet": write_parquet,
}


def finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Nothing in place of NaN and infinity."""
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    return column


def _plain(table: pa.Table) -> pa.Table:
    """Times as ISO 8601 text, and nothing in place of NaN and infinity."""

    def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if pa.types.is_timestamp(column.type):
            return pc.strftime(pc.cast(column, pa.timestamp("s", "UTC"), safe=False), TIME)
        return finite(column)

    return pa.table([plain(column) for column in table.columns], names=table.column_names)


def _without_formulas(table: pa.Table) -> pa.Table:
    """An apostrophe before each text that a spreadsheet would take for a formula and run."""

    def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            return column
        runs = pc.match_substring_regex(column, FORMULA)
        mark, nothing = pa.scalar("'", column.type), pa.scalar("", column.type)
        return pc.if_else(runs, pc.binary_join_element_wise(mark, column, nothing), column)

    return pa.table([as_text(column) for column in table.columns], names=table.column_names)
