"""Observations as columns of numbers, and the checks that every observation passes.

An observation is user_id, metric, observed_at (UTC), value; (user_id, metric, observed_at) names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from anomaly.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

COLUMNS = ("user_id", "metric", "observed_at", "value")
TIME_TYPE = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("metric", pa.string()),
        ("observed_at", TIME_TYPE),
        ("value", pa.float64()),
    ]
)
# Why a row was set aside. These words are labels of a metric and values in `rejects`: a fixed set.
REASONS = (
    "wrong_field_count",
    "not_utf8",
    "missing_user_id",
    "missing_metric",
    "missing_time",
    "missing_value",
    "user_id_too_long",
    "metric_too_long",
    "nul_character",
    "unreadable_time",
    "nonexistent_time",
    "time_out_of_range",
    "future_time",
    "unreadable_value",
    "not_finite",
    "value_too_large",
    "negative_count",
    "contradicting_duplicate",
)
LONGEST_NAME = 512  # UTF-8 bytes of a user id or a metric's name
# Larger magnitudes are refused: float32 ends at 3.4e38, and many rows are added up within a step.
LARGEST_VALUE = 1e30
EARLIEST = 0  # 1970-01-01; earlier times are placeholders such as 0001-01-01
LATEST = 7_258_118_400  # 2200-01-01, seconds UTC: later ones are placeholders such as 9999-12-31
MICROSECONDS = 1_000_000
GLANCE = 65_536  # rows looked at before the next, where a few mostly tell


@dataclass(frozen=True, slots=True)
class Rows:
    """Observations in no particular order, none of them twice.

    user_code, metric_code: (rows,) int32, positions in user_names and metric_names.
    observed_at: (rows,) int64, seconds since 1970 UTC, rounded down.
    value: (rows,) float64, in the metric's own unit.
    user_names, metric_names: sorted; every name has at least one row.
    """

    user_code: NDArray[np.int32]
    metric_code: NDArray[np.int32]
    observed_at: NDArray[np.int64]
    value: NDArray[np.float64]
    user_names: tuple[str, ...]
    metric_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.value)

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Rows:
        """Take over a table with the columns of `SCHEMA` (observed_at in any unit, in UTC).

        Of rows with the same key the first is kept.
        Raises: DataError if a column is missing, of a wrong type, or holds nulls or numbers that are
            not finite or beyond LARGEST_VALUE.
        """
        _require_columns(table)
        users, user_names = encoded(table["user_id"])
        metrics, metric_names = encoded(table["metric"])
        instants = _microseconds(table["observed_at"])
        values = _numbers(table["value"])
        repeated = find_repeated(users, metrics, instants)
        rows = cls(users, metrics, instants // MICROSECONDS, values, user_names, metric_names)
        return rows.take(~repeated) if repeated.any() else rows

    def take(self, chosen: NDArray[Any]) -> Rows:
        """The rows chosen by a mask or by positions; names without a row go."""
        users, user_names = _compact(self.user_code[chosen], self.user_names)
        metrics, metric_names = _compact(self.metric_code[chosen], self.metric_names)
        return Rows(
            users, metrics, self.observed_at[chosen], self.value[chosen], user_names, metric_names
        )

    def between(self, start: int, end: int) -> Rows:
        """The rows from start (inclusive) to end (exclusive), seconds UTC."""
        return self.take((self.observed_at >= start) & (self.observed_at < end))


def find_repeated(
    users: NDArray[np.int32], metrics: NDArray[np.int32], instants: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which rows repeat the key (user, metric, instant) of an earlier row: (rows,) bool."""
    repeated = np.zeros(len(users), dtype=np.bool_)
    if all_rising(users, instants, metrics):  # as a database gives them
        return repeated
    key = _one_key(users, metrics, instants)
    # A plain sort costs a fifth of one that carries positions, and most data repeat nothing.
    in_order = np.sort(key)
    if (in_order[1:] != in_order[:-1]).all():
        return repeated
    order = np.argsort(key, kind="stable")
    repeated[order[1:]] = key[order[1:]] == key[order[:-1]]
    return repeated


def all_rising(
    users: NDArray[np.int32], instants: NDArray[np.int64], metrics: NDArray[np.int32]
) -> bool:
    """Whether each row comes after the one before it, by user, then time, then metric."""
    later = (instants[1:] == instants[:-1]) & (metrics[1:] > metrics[:-1])
    later |= instants[1:] > instants[:-1]
    later &= users[1:] == users[:-1]
    later |= users[1:] > users[:-1]
    return bool(later.all())


def all_within(numbers: NDArray[Any], least: float, most: float) -> bool:
    """Whether none lies outside, nor is NaN: two passes that write nothing."""
    return not len(numbers) or bool(numbers.min() >= least and numbers.max() <= most)


def run_starts(codes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Where rows of one code that follow one another begin."""
    return np.flatnonzero(np.append(True, codes[1:] != codes[:-1])[: len(codes)])


def encoded(
    names: pa.ChunkedArray | pa.Array,
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Codes (rows,) int32 into the sorted distinct names.

    Raises: DataError if a name is null.
    """
    column = names if isinstance(names, pa.ChunkedArray) else pa.chunked_array([names])
    if column.null_count:
        raise DataError("rows: a user_id or metric is null. Leave such rows out.")
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    joined = column.unify_dictionaries().combine_chunks()
    if isinstance(joined, pa.ChunkedArray):  # what combining no chunks at all gives
        return np.empty(0, dtype=np.int32), ()
    words = np.array(joined.dictionary.cast(pa.string()).to_pylist(), dtype=object)
    codes = joined.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
    order = np.argsort(words, kind="stable")
    if (order[1:] > order[:-1]).all():
        return _compact(codes, tuple(words.tolist()))
    places = np.empty(len(words), dtype=np.int32)
    places[order] = np.arange(len(words), dtype=np.int32)
    return _compact(places[codes], tuple(words[order].tolist()))


def _one_key(
    users: NDArray[np.int32], metrics: NDArray[np.int32], instants: NDArray[np.int64]
) -> NDArray[np.int64]:
    """One number for each (user, instant, metric), rising in that order."""
    moments = instants - instants.min()
    span = int(moments.max()) + 1
    kinds = int(metrics.max()) + 1
    if (int(users.max()) + 1) * kinds * span >= 2**62:
        moments = np.unique(moments, return_inverse=True)[1].astype(np.int64)
        span = int(moments.max()) + 1
    key: NDArray[np.int64] = (users.astype(np.int64) * span + moments) * kinds + metrics
    return key


def _compact(
    codes: NDArray[np.int32], names: tuple[str, ...]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """The same codes into only those names that occur."""
    used = np.zeros(len(names), dtype=np.bool_)
    for first in range(0, len(codes), GLANCE):
        some = codes[first : first + GLANCE]
        used[some[run_starts(some)]] = True
        if used.all():  # of metrics mostly soon
            return codes, names
    places = (np.cumsum(used) - 1).astype(np.int32)
    return places[codes], tuple(names[name] for name in np.flatnonzero(used))


def _require_columns(table: pa.Table) -> None:
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"rows: no column {_listed(missing)} among {_listed(table.column_names)}. "
            f"Name the columns {_listed(COLUMNS)}."
        )


def _microseconds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    if not pa.types.is_timestamp(column.type) or column.type.tz is None or column.null_count:
        raise DataError(
            f"rows: observed_at is {column.type} with {column.null_count} nulls, expected "
            "timestamps with a time zone and no nulls. Give times in UTC."
        )
    instants = column.cast(TIME_TYPE, safe=False).cast(pa.int64())
    return np.asarray(instants.to_numpy(), dtype=np.int64)


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"rows: value is {column.type}, expected numbers. Convert the column.")
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    if not all_within(values, -LARGEST_VALUE, LARGEST_VALUE):  # a null reads as NaN
        bad = np.flatnonzero(~(np.abs(values) <= LARGEST_VALUE))
        raise DataError(
            f"rows: value is missing, not finite or beyond {LARGEST_VALUE:g} in {len(bad)} of "
            f"{len(values)} rows, the first of them row {bad[0] + 1} ({values[bad[0]]}). "
            "Leave such rows out."
        )
    return values


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
