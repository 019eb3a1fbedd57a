"""Parquet files, read row group by row group; groups that hold nothing wanted are passed over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anomaly.exceptions import DataError
from anomaly.sources.cleaning import Cleaner, Raw, melted, repeated_column
from anomaly.sources.layout import Layout, find_layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from anomaly.sources.batch import Batch
    from anomaly.sources.cleaning import Checks

PARQUET_MAGIC = b"PAR1"
BATCH_ROWS = 500_000


def read_parquet(
    path: Path, root: Path, columns: Mapping[str, str] | None, metric: str | None, checks: Checks
) -> Iterator[Batch]:
    """Read one Parquet file; folders named key=value between root and it are columns of it.

    Memory: a few times BATCH_ROWS. Row groups outside the wanted times and users, as their
    statistics tell, are not read.
    Raises: DataError if the file is damaged, cut short or lacks a column.
    """
    partitions = _partitions(path, root)
    try:
        with pq.ParquetFile(path) as file:
            source = _Source(path, file, partitions)
            layout = find_layout(path.name, source.names, columns, metric, user=path.stem)
            yield from source.batches(_with_numbers(layout, file.schema_arrow, path), checks)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path.name}: no readable Parquet file ({str(error).splitlines()[0]}). It may be "
            "damaged or cut short: write it again."
        ) from error
