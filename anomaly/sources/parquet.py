"""Parquet files, read row group by row group; groups that hold nothing wanted are passed over."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anomaly.exceptions import DataError
from anomaly.sources.cleaning import Raw, melted, repeated_column
from anomaly.sources.layout import Layout, find_layout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from anomaly.sources.batch import Batch
    from anomaly.sources.cleaning import Checks, Cleaner

PARQUET_MAGIC = b"PAR1"
BATCH_ROWS = 500_000
PANDAS_INDEX = "__index_level_"
ONE_DAY = 86_400  # seconds: more than any zone's distance from UTC


def read_parquet(
    path: Path, root: Path, columns: Mapping[str, str] | None, metric: str | None, cleaner: Cleaner
) -> Iterator[Batch]:
    """Read one Parquet file; folders named key=value between root and it are columns of it.

    Memory: a few times BATCH_ROWS. Row groups outside the wanted times and users, as their
    statistics tell, are not read.
    Raises: DataError if the file is damaged, cut short or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            source = _Source(path, file, _partitions(path, root))
            layout = source.layout(columns, metric)
        # Names repeat: read as codes into a dictionary they cost a fraction.
        coded = [
            name
            for name in (layout.user_id, layout.metric)
            if name is not None and name not in source.partitions
        ]
        with pq.ParquetFile(path, metadata=file.metadata, read_dictionary=coded) as file:
            yield from replace(source, file=file).batches(layout, cleaner)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path.name}: no readable Parquet file ({str(error).splitlines()[0]}). It may be "
            "damaged or cut short: write it again."
        ) from error


def group_bounds(
    path: Path, root: Path, columns: Mapping[str, str] | None, metric: str | None
) -> list[tuple[int, str | None, str | None]]:
    """Rows, least and greatest user of each row group; None where its statistics do not tell."""
    with pq.ParquetFile(path) as file:
        source = _Source(path, file, _partitions(path, root))
        user = source.layout(columns, metric).user_id or ""
        found = []
        for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
            low, high = _bounds_of(group, (user,)).get(user, (None, None))
            known = isinstance(low, str) and isinstance(high, str)
            found.append((group.num_rows, low if known else None, high if known else None))
        return found


@dataclass(frozen=True, slots=True)
class _Source:
    """One open file. partitions: the columns that its folders' names give."""

    path: Path
    file: pq.ParquetFile
    partitions: dict[str, str]

    def layout(self, columns: Mapping[str, str] | None, metric: str | None) -> Layout:
        """Which columns mean what; of a wide file's, only numbers are metrics."""
        schema, present = self.file.schema_arrow, self._present
        folders = [name for name in self.partitions if name not in present]
        found = find_layout(self.path.name, present + folders, columns, metric, user=self.path.stem)
        if not found.wide:
            return found
        numbers = tuple(
            name for name in found.values if name in present and _is_number(schema.field(name).type)
        )
        if not numbers:
            raise DataError(
                f"{self.path.name}: no column of numbers among {', '.join(found.values[:20])}. "
                "Give metrics as columns of numbers, or name a value column."
            )
        return replace(found, values=numbers)

    @property
    def _present(self) -> list[str]:
        """The file's columns, without an index that pandas wrote beside them."""
        names = self.file.schema_arrow.names
        return [name for name in names if not name.startswith(PANDAS_INDEX)]

    def batches(self, layout: Layout, cleaner: Cleaner) -> Iterator[Batch]:
        read = [name for name in layout.columns if name not in self.partitions]
        passed = tuple(name for name in self._present if name not in read)
        size = max(BATCH_ROWS // len(layout.values), 1)
        for first_row, groups in self._wanted_groups(layout, cleaner.checks):
            start = first_row
            for block in self.file.iter_batches(size, groups, columns=read):
                raw = self._raw(block, start, layout, cleaner.checks)
                start += len(block)
                yield replace(cleaner.clean(raw), passed=passed)

    def _wanted_groups(self, layout: Layout, checks: Checks) -> Iterator[tuple[int, list[int]]]:
        """Runs of neighbouring row groups that may hold wanted rows, with their first row."""
        metadata = self.file.metadata
        groups = range(metadata.num_row_groups)
        starts = np.cumsum([0, *(metadata.row_group(group).num_rows for group in groups)])
        wanted = [_may_hold(metadata.row_group(group), layout, checks) for group in groups]
        for chosen, run in groupby(groups, key=wanted.__getitem__):
            members = list(run)
            if chosen:
                yield int(starts[members[0]]), members

    def _raw(self, block: pa.RecordBatch, start: int, layout: Layout, checks: Checks) -> Raw:
        user = self._column(block, layout.user_id, layout.default_user)
        rows = _rows_of(user, checks.users)
        if rows is not None:
            block, user = block.take(pa.array(rows)), user.take(pa.array(rows))

        def locate(place: int) -> str:
            row = start + (place if rows is None else int(rows[place])) + 1
            return f"{self.path.name} row {row}"

        time = self._column(block, layout.observed_at, "")
        if layout.wide:
            values = {name: block[name].cast(pa.float64(), safe=False) for name in layout.values}
            return melted(user, time, values, locate)
        metric = self._column(block, layout.metric, layout.default_metric)
        return Raw(user, metric, time, self._column(block, layout.values[0], ""), locate)

    def _column(self, block: pa.RecordBatch, name: str | None, default: str) -> pa.Array:
        if name is None or name in self.partitions:
            word = default if name is None else self.partitions[name]
            return repeated_column(word, len(block))
        return block[name]


def _partitions(path: Path, root: Path) -> dict[str, str]:
    folders = path.relative_to(root).parts[:-1]
    pairs = (folder.partition("=") for folder in folders if "=" in folder)
    return {key: unquote(value) for key, _, value in pairs}


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _rows_of(user: pa.Array, users: frozenset[str] | None) -> np.ndarray[Any, Any] | None:
    """Positions of the wanted users' rows; None for all."""
    if users is None:
        return None
    dictionary = pa.types.is_dictionary(user.type)
    words = (user.dictionary if dictionary else user).cast(pa.string())
    asked = pc.is_in(words, pa.array(sorted(users), pa.string()))
    if dictionary:
        if not user.indices.null_count and pc.all(asked).as_py():
            return None  # without a look at any row
        asked = asked.take(user.indices).fill_null(False)
    chosen = asked.to_numpy(zero_copy_only=False)
    return None if chosen.all() else np.flatnonzero(chosen)


def _may_hold(group: pq.RowGroupMetaData, layout: Layout, checks: Checks) -> bool:
    """Whether a row group's statistics leave room for wanted rows."""
    bounds = _bounds_of(group, (layout.user_id, layout.observed_at))
    low, high = bounds.get(layout.observed_at, (None, None))
    if isinstance(low, dt.datetime) and isinstance(high, dt.datetime):
        if checks.end is not None and _seconds(low) - ONE_DAY >= checks.end:
            return False
        if checks.start is not None and _seconds(high) + ONE_DAY < checks.start:
            return False
    first, last = bounds.get(layout.user_id or "", (None, None))
    if checks.users is not None and isinstance(first, str) and isinstance(last, str):
        return any(first <= user <= last for user in checks.users)
    return True


def _bounds_of(
    group: pq.RowGroupMetaData, names: Collection[str | None]
) -> dict[str, tuple[Any, Any]]:
    """The bounds of each of these columns that the group has."""
    return {
        column.path_in_schema: _bounds(column)
        for column in map(group.column, range(group.num_columns))
        if column.path_in_schema in names
    }


def _bounds(column: pq.ColumnChunkMetaData) -> tuple[Any, Any]:
    """The least and greatest value of a column, (None, None) where they are not known."""
    if not column.is_stats_set or not column.statistics.has_min_max:
        return None, None
    try:
        return column.statistics.min, column.statistics.max
    except (ValueError, OverflowError):  # times beyond the year 9999
        return None, None


def _seconds(when: dt.datetime) -> float:
    """Seconds since 1970; a wall-clock time counts as UTC, which is right within ONE_DAY."""
    return (when if when.tzinfo else when.replace(tzinfo=dt.UTC)).timestamp()
