"""Verdicts in bulk: the lines of a CSV file as labels, all of them or an error that names the line."""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import io

from anomaly.exceptions import DataError, UsageError
from anomaly.feedback import Label, verdict_of

NEEDED = ("flag_id", "verdict")
COLUMNS = (*NEEDED, "note", "author", "scope", "until", "replacing")
MOST_LABELS = 100_000  # in one file
BYTE_ORDER_MARK = "\ufeff"


def read_labels(text: str, where: str, author: str) -> list[Label]:
    """The labels of a CSV text whose first line names its columns (see COLUMNS).

    Args: where: how errors call it. author: who says so where a line does not.
    Raises: DataError for what is no such file; UsageError for a line that cannot be meant; both
        name the line.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK)), strict=True)
    try:
        _check_columns(reader.fieldnames or (), where)
        labels = []
        for row in reader:
            labels.append(_label(row, f"{where} line {reader.line_num}", author))
            if len(labels) > MOST_LABELS:
                raise DataError(f"{where}: more than {MOST_LABELS:,} labels. Split the file.")
    except csv.Error as error:
        raise DataError(f"{where} line {reader.line_num}: is no CSV ({error}).") from error
    if not labels:
        raise DataError(f"{where}: holds no labels. Write a line for each flag below the columns.")
    return labels


def _check_columns(names: object, where: str) -> None:
    found = [str(name).strip() for name in names] if isinstance(names, list | tuple) else []
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise DataError(
            f"{where}: has no column {', '.join(missing)}; its first line must name the columns, "
            f"{', '.join(COLUMNS)} (the first two are needed)."
        )
    for name in found:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(COLUMNS)}."
            raise DataError(f"{where}: column {name[:40]!r} is not known. {hint}")


def _label(row: dict[str | None, object], where: str, author: str) -> Label:
    if None in row or None in row.values():
        raise DataError(f"{where}: has more or fewer cells than columns. Quote cells with commas.")
    cells = {str(name).strip(): str(cell).strip() for name, cell in row.items()}
    try:
        return Label(
            flag_id=cells["flag_id"],
            verdict=verdict_of(cells["verdict"]),
            author=cells.get("author") or author,
            note=cells.get("note", ""),
            scope=cells.get("scope") or "user",
            until=until_of(cells.get("until", "")),
            replacing=verdict_of(cells["replacing"]) if cells.get("replacing") else None,
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def until_of(text: str) -> dt.datetime | None:
    """A day or instant in ISO 8601, UTC where it has no offset; None where there is none.

    Raises: UsageError if it is written otherwise.
    """
    if not text:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"until {text[:40]!r} is no day. Write 2026-12-31.") from error
