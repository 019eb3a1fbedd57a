"""Tables for people and for programs: on the terminal, or as CSV, JSON and Parquet."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from anomaly.exceptions import SourceError, UsageError
from anomaly.wording import score

if TYPE_CHECKING:
    import pyarrow as pa

    from anomaly.records import Flag
    from pipelines.cli.shell import Shell


class Format(StrEnum):
    """How a list is written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    ocsf = "ocsf"
    ecs = "ecs"
    alertmanager = "alertmanager"


SUFFIXES = {
    ".csv": Format.csv,
    ".json": Format.json,
    ".parquet": Format.parquet,
    ".pq": Format.parquet,
}


def format_of(path: Path) -> Format:
    """The format that a file's suffix asks for.

    Raises: UsageError if it asks for none.
    """
    found = SUFFIXES.get(path.suffix)
    if found is None:
        raise UsageError(f"{path}: its suffix names no format. Use {', '.join(SUFFIXES)}.")
    return found


def write(table: pa.Table, form: Format, out: Path | None) -> None:
    """Write a table to a file, whole or not at all, or to standard output.

    Times become ISO 8601 in UTC; JSON is an array of records. Equal tables give equal bytes.
    Raises: SourceError if the file cannot be written.
    """
    if out is None:
        writer(form)(table, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    whole_file(out, lambda file: writer(form)(table, file))


def whole_file(out: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file beside its place and move it there when it is whole.

    Raises: SourceError if it cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(
            dir=out.parent, prefix=f".{out.name}-", delete=False
        ) as file:
            try:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(0o644)
                Path(file.name).replace(out)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SourceError(
            f"{out}: cannot be written ({error.strerror or error}). Check the folder and its space."
        ) from error


def _write_ocsf(table: pa.Table, file: IO[bytes]) -> None:
    from anomaly.handover import ocsf

    _write_lines(map(ocsf, _flags(table)), file)


def _write_ecs(table: pa.Table, file: IO[bytes]) -> None:
    from anomaly.handover import ecs

    _write_lines(map(ecs, _flags(table)), file)


def _write_alerts(table: pa.Table, file: IO[bytes]) -> None:
    from anomaly.handover import alert

    alerts = [alert(flag) for flag in _flags(table)]
    file.write(json.dumps(alerts, indent=1, ensure_ascii=False).encode() + b"\n")


def _write_lines(records: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for record in records:
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _flags(table: pa.Table) -> list[dict[str, Any]]:
    """Flags as records.

    Raises: UsageError if the table holds something else.
    """
    import pyarrow as pa

    from anomaly.formats import finite
    from anomaly.records import FLAG_COLUMNS

    if not set(FLAG_COLUMNS) <= set(table.column_names):
        raise UsageError("ocsf, ecs and alertmanager are for flags. Write csv, json or parquet.")
    flags: list[dict[str, Any]] = pa.table(
        [finite(one) for one in table.columns], names=table.column_names
    ).to_pylist()
    return flags


def writer(form: Format) -> Callable[[pa.Table, IO[bytes]], None]:
    """What writes tables in this form."""
    from anomaly import formats

    writers = {
        Format.csv: formats.write_csv,
        Format.json: formats.write_json,
        Format.parquet: formats.write_parquet,
        Format.ocsf: _write_ocsf,
        Format.ecs: _write_ecs,
        Format.alertmanager: _write_alerts,
    }
    return writers[form]


def show(
    shell: Shell,
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    figures: Collection[str] = (),
) -> None:
    """Draw a table; numbers stand at the right, as do the columns of figures that are in words already."""
    from rich.table import Table
    from rich.text import Text

    drawn = [list(row) for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, name in enumerate(columns):
        numeric = bool(drawn) and all(isinstance(row[place], int | float) for row in drawn)
        numeric = numeric or name in figures
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in drawn:
        table.add_row(*(Text(_cell(value)) for value in row))
    shell.out.print(table)


def show_flags(shell: Shell, title: str, flags: Sequence[Flag]) -> None:
    """Flags with a sentence each, the highest score first."""
    if not flags:
        shell.say(title)
        return
    columns = ("flag", "user", "start", "end", "severity", "score", "what")
    rows = (
        (
            flag.flag_id,
            flag.user_id[:40],
            f"{flag.start:%Y-%m-%d %H:%M}",
            f"{flag.end:%Y-%m-%d %H:%M}",
            flag.severity,
            score(flag.score),
            flag.explanation,
        )
        for flag in flags
    )
    show(shell, f"{title} (times in UTC)", columns, rows, figures=("score",))


def show_flag_table(shell: Shell, title: str, table: pa.Table, limit: int) -> None:
    """The first flags of a table that has FLAG_COLUMNS."""
    from anomaly.records import Flag

    shown = [Flag(**row) for row in table.slice(0, limit).to_pylist()]
    more = f", the highest {limit}" if len(table) > limit else ""
    show_flags(shell, title + more, shown)


def passed_over(columns: Iterable[str]) -> str:
    """The end of a sentence that names a file's columns of which nothing was read."""
    names = ", ".join(sorted(columns))
    return f"; columns passed over: {names}" if names else ""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    # A name may hold what would steer the reader's terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
