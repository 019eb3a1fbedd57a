"""Bulk rows in and out of PostgreSQL: COPY in, Arrow out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa

from anomaly.rows import SCHEMA

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import URL, Connection, Engine

    from anomaly.store.observations import Sorted

TABLE_BYTES = 16 << 20  # a table that is read: some 200,000 rows
COPY_BYTES = 1 << 20

_STAGED = (
    'CREATE TEMPORARY TABLE staged (user_id text COLLATE "C", observed_at timestamptz, '
    'metric text COLLATE "C", value double precision) ON COMMIT DROP'
)
_COPY = "COPY staged (user_id, observed_at, metric, value) FROM STDIN (FORMAT csv)"
_INSERT = (
    "INSERT INTO observations (user_id, observed_at, metric, value) "
    "SELECT user_id, observed_at, metric, value FROM staged "
    "ON CONFLICT (user_id, observed_at, metric) DO NOTHING"
)
_CORRECT = (
    "UPDATE observations AS o SET value = s.value FROM staged AS s "
    "WHERE o.user_id = s.user_id AND o.observed_at = s.observed_at AND o.metric = s.metric "
    "AND o.value <> s.value"
)
_SPAN = "CREATE TEMPORARY TABLE span (since timestamptz, until timestamptz) ON COMMIT DROP"
_WANTED = 'CREATE TEMPORARY TABLE wanted (user_id text COLLATE "C") ON COMMIT DROP'
_ALL_ROWS = (
    "SELECT o.user_id, o.metric, o.observed_at, o.value FROM span AS s "
    "JOIN observations AS o ON o.observed_at >= s.since AND o.observed_at < s.until "
    "ORDER BY o.user_id, o.observed_at, o.metric"
)
_WANTED_ROWS = (
    "SELECT o.user_id, o.metric, o.observed_at, o.value FROM span AS s CROSS JOIN wanted AS w "
    "JOIN observations AS o ON o.user_id = w.user_id "
    "AND o.observed_at >= s.since AND o.observed_at < s.until "
    "ORDER BY o.user_id, o.observed_at, o.metric"
)


def upsert(connection: Connection, rows: Sorted) -> tuple[int, int]:
    """Insert new rows and correct known ones, within the caller's transaction.

    Returns: how many were inserted, how many corrected.
    """
    from pyarrow import csv

    connection.exec_driver_sql(_STAGED)
    text = io.BytesIO()
    csv.write_csv(rows.table(), text, csv.WriteOptions(include_header=False))
    content = text.getbuffer()
    with connection.connection.cursor() as cursor, cursor.copy(_COPY) as copy:  # type: ignore[attr-defined]
        for first in range(0, len(content), COPY_BYTES):
            copy.write(content[first : first + COPY_BYTES])
    inserted = connection.exec_driver_sql(_INSERT).rowcount
    corrected = 0
    if inserted < len(rows):
        corrected = connection.exec_driver_sql(_CORRECT).rowcount
    # A second write within this transaction stages its rows anew.
    connection.exec_driver_sql("DROP TABLE staged")
    return inserted, corrected


def read(
    engine: Engine, start: dt.datetime, end: dt.datetime, users: Sequence[str] | None
) -> Iterator[pa.Table]:
    """Rows by user, time and metric from one snapshot. users: None for all.

    What is wanted goes into temporary tables: a statement with parameters would not be streamed.
    """
    # It brings pandas along, a second's wait for those who only look at flags.
    from adbc_driver_postgresql import dbapi  # type: ignore[import-untyped]

    with dbapi.connect(_connection_string(engine.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(_SPAN)
        span = pa.table(
            {
                "since": pa.array([start], SCHEMA.field("observed_at").type),
                "until": pa.array([end], SCHEMA.field("observed_at").type),
            }
        )
        cursor.adbc_ingest("span", span, mode="append", temporary=True)
        if users is not None:
            cursor.execute(_WANTED)
            names = pa.table({"user_id": pa.array(users, pa.string())})
            cursor.adbc_ingest("wanted", names, mode="append", temporary=True)
            cursor.execute("ANALYZE wanted")
        cursor.adbc_statement.set_options(
            **{"adbc.postgresql.batch_size_hint_bytes": str(TABLE_BYTES)}
        )
        cursor.execute(_ALL_ROWS if users is None else _WANTED_ROWS)
        with cursor.fetch_record_batch() as batches:
            for batch in batches:
                if len(batch):
                    yield pa.Table.from_batches([batch]).cast(SCHEMA)


def _connection_string(url: URL) -> str:
    """The notation of libpq, which keeps every character of a password or socket's path."""
    from psycopg.conninfo import make_conninfo

    _, parts = url.get_dialect()().create_connect_args(url)
    return make_conninfo(**parts)
