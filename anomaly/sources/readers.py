"""Readers that settings name: what they hand over is cleaned like any other source's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from anomaly import plugins
from anomaly.exceptions import DataError, SettingsError
from anomaly.rows import COLUMNS
from anomaly.sources.cleaning import Checks, Cleaner, Raw

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from anomaly.sources.batch import Batch


class Reader(Protocol):
    """Where observations come from, made from [source] options; see docs/extending.md."""

    def read(self, since: dt.datetime | None, until: dt.datetime, step: int) -> Iterator[pa.Table]:
        """Tables of user_id, metric, observed_at, value.

        Args: since: where the last reading ended, less the overlap; None at first. until: now and a
            day. step: seconds of the grid.
        Raises: SourceError if the source cannot be reached.
        """
        ...


def open_reader(name: str, options: Mapping[str, Any]) -> Reader:
    """Make the reader that an entry point names.

    Raises: SettingsError if it does not take these options.
    """
    kind = plugins.load("sources", name)
    try:
        reader: Reader = kind(**options)
    except TypeError as error:
        raise SettingsError(f"[source] options: reader {name!r} says: {error}.") from error
    return reader


def read_batches(
    reader: Reader,
    name: str,
    since: dt.datetime | None,
    until: dt.datetime,
    step: int,
    checks: Checks,
) -> Iterator[Batch]:
    """Clean what a reader hands over.

    Raises: DataError if a table lacks a column.
    """
    cleaner = Cleaner(checks)
    first = 0
    for table in reader.read(since, until, step):
        missing = [column for column in COLUMNS if column not in table.column_names]
        if missing:
            raise DataError(
                f"reader {name}: its table has no column {', '.join(missing)}, only "
                f"{', '.join(table.column_names)}. Mend the reader."
            )
        user, metric, when, value = (table[column].combine_chunks() for column in COLUMNS)
        yield cleaner.clean(Raw(user, metric, when, value, _places(name, first)))
        first += len(table)


def _places(name: str, first: int) -> Callable[[int], str]:
    return lambda place: f"{name} row {first + place + 1} as read"
