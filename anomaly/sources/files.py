"""Any file of observations: CSV or Parquet, one file or a folder of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.exceptions import DataError, SourceError
from anomaly.sources.cleaning import Checks, Cleaner
from anomaly.sources.delimited import read_csv
from anomaly.sources.parquet import PARQUET_MAGIC, read_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anomaly.sources.batch import Batch

SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz", ".tsv", ".txt")


def read_file(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    timezone: str | None = None,
    *,
    metric: str | None = None,
    checks: Checks | None = None,
) -> Iterator[Batch]:
    """Read observations from a CSV file, a Parquet file or a folder of either, block by block.

    Args: columns: our names to the file's, where they differ. timezone: of times that carry none
            (default: that of checks). metric: its name where the file has no such column.
    Raises: SourceError if there is no such file or it cannot be opened; DataError if it cannot be
        understood, naming file, row, column and remedy; UsageError if `columns` is wrong.
    """
    path = Path(path)
    checks = checks or Checks()
    if timezone is not None:
        checks = replace(checks, timezone=timezone)
    cleaner = Cleaner(checks)  # one for all files of a folder: they are one source
    root = path if path.is_dir() else path.parent
    for file in files_of(path):
        try:
            if is_parquet(file):
                yield from read_parquet(file, root, columns, metric, cleaner)
            else:
                yield from read_csv(file, columns, metric, cleaner)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise SourceError(
                f"{file}: cannot be read ({reason}). Check the path and its rights."
            ) from error


def files_of(path: Path) -> list[Path]:
    """The files of observations in a folder, sorted, or the one file.

    Raises: SourceError if there is no such path; DataError if the folder holds none.
    """
    if not path.exists():
        raise SourceError(f"{path}: there is no such file. Check the path.")
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.name.endswith(SUFFIXES)
        and file.is_file()
        # Names that begin so are logs and leftovers of those who write such folders.
        and not any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
    ]
    if not found:
        raise DataError(f"{path}: the folder holds no .parquet or .csv file. Name another folder.")
    return found


def is_parquet(file: Path) -> bool:
    """Whether a file is Parquet, by its name or its first bytes."""
    if file.suffix in {".parquet", ".pq"}:
        return True
    with file.open("rb") as opened:
        return opened.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
