"""Bulk rows in and out of SQLite, through the one SQLite library of this process.

A second copy of that library (such as an ADBC driver brings) must not open the same file: when it
closes the file, the system drops the locks of the first (sqlite.org/howtocorrupt.html, 2.2.1).
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from anomaly.rows import SCHEMA
from anomaly.store.columns import instant_text

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection, Engine

    from anomaly.store.observations import Sorted

TABLE_ROWS = 200_000  # a table that is read ends with the user that passes this
CHUNK_ROWS = 20_000  # rows that are Python objects at once while writing

_INSERT = (
    "INSERT INTO observations (user_id, observed_at, metric, value) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (user_id, observed_at, metric) DO NOTHING"
)
_CORRECT = (
    "UPDATE observations SET value = ?4 "
    "WHERE user_id = ?1 AND observed_at = ?2 AND metric = ?3 AND value <> ?4"
)
_USER_ROWS = (
    "SELECT observed_at, metric, value FROM observations "
    "WHERE user_id = ? AND observed_at >= ? AND observed_at < ? ORDER BY observed_at, metric"
)
_NEXT_USER = "SELECT min(user_id) FROM observations WHERE user_id > ?"
_ROW = np.dtype([("observed_at", object), ("metric", object), ("value", np.float64)])


def upsert(connection: Connection, rows: Sorted) -> tuple[int, int]:
    """Insert new rows and correct known ones, within the caller's transaction.

    Returns: how many were inserted, how many corrected.
    """
    inserted = _execute(connection, _INSERT, rows)
    # Most writes bring only new rows; a second pass is for those that overlap.
    corrected = _execute(connection, _CORRECT, rows) if inserted < len(rows) else 0
    return inserted, corrected


def read(
    engine: Engine, start: dt.datetime, end: dt.datetime, users: Sequence[str] | None
) -> Iterator[pa.Table]:
    """Rows by user, time and metric from one snapshot. users: in byte order, None for all."""
    with engine.connect() as connection, connection.begin():
        pieces: list[pa.Table] = []
        for user in _every_user(connection) if users is None else users:
            for piece in _user_rows(connection, user, start, end):
                pieces.append(piece)
                if sum(map(len, pieces)) >= TABLE_ROWS:
                    yield pa.concat_tables(pieces).combine_chunks()
                    pieces = []
        if pieces:
            yield pa.concat_tables(pieces).combine_chunks()


def json_list(words: Iterable[str]) -> str:
    """Words as one parameter for json_each: SQLite bounds the number of parameters, not their size."""
    return json.dumps(list(words), ensure_ascii=False)


def _execute(connection: Connection, statement: str, rows: Sorted) -> int:
    times = _texts(rows.times)
    changed = 0
    for first in range(0, len(rows), CHUNK_ROWS):
        part = slice(first, first + CHUNK_ROWS)
        columns = (rows.user_id[part], times[part], rows.metric[part], rows.values[part])
        chunk = list(zip(*(column.tolist() for column in columns), strict=True))
        changed += connection.exec_driver_sql(statement, chunk).rowcount
    return changed


def _texts(times: NDArray[np.int64]) -> NDArray[np.object_]:
    """Microseconds since 1970 UTC as text; each distinct time is written out once."""
    distinct, places = np.unique(times, return_inverse=True)
    moments = pa.array(distinct).cast(SCHEMA.field("observed_at").type).to_pylist()
    return np.array([instant_text(moment) for moment in moments], dtype=object)[places]


def _every_user(connection: Connection) -> Iterator[str]:
    user = ""
    while user is not None:
        user = connection.exec_driver_sql(_NEXT_USER, (user,)).scalar_one()
        if user is not None:
            yield user


def _user_rows(
    connection: Connection, user: str, start: dt.datetime, end: dt.datetime
) -> Iterator[pa.Table]:
    # The driver's own cursor: SQLAlchemy's rows cost as much again as the query.
    cursor = connection.connection.cursor()
    try:
        rows = cursor.execute(_USER_ROWS, (user, instant_text(start), instant_text(end)))
        while True:
            found = np.fromiter(itertools.islice(rows, TABLE_ROWS), dtype=_ROW)
            if len(found):
                yield _table(user, found)
            if len(found) < TABLE_ROWS:
                return
    finally:
        cursor.close()


def _table(user: str, rows: NDArray[np.void]) -> pa.Table:
    names = pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), [user])
    times = pa.array(rows["observed_at"], pa.string())
    return pa.table(
        {
            "user_id": names.cast(pa.string()),
            "metric": pa.array(rows["metric"], pa.string()),
            "observed_at": times.cast(SCHEMA.field("observed_at").type),
            "value": np.ascontiguousarray(rows["value"]),
        }
    )
