"""Observations in bulk: Arrow tables in, Arrow tables out.

The key is (user_id, observed_at, metric), in this order, so that what is read next lies next: a
user's month is one stretch of the table.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from anomaly.exceptions import DataError
from anomaly.rows import LONGEST_NAME, SCHEMA
from anomaly.store import postgres, sqlite
from anomaly.store.entities import Written
from anomaly.store.tables import metrics, observations

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

EARLIEST = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)

# The distinct users by leaps along the key; DISTINCT would read every row.
_ALL_USERS = sa.text("""
WITH RECURSIVE known (user_id) AS (
    SELECT min(user_id) FROM observations
    UNION ALL
    SELECT (SELECT min(o.user_id) FROM observations AS o WHERE o.user_id > known.user_id)
    FROM known WHERE known.user_id IS NOT NULL
)
SELECT user_id FROM known WHERE user_id IS NOT NULL
""")


@dataclass(frozen=True, slots=True)
class Sorted:
    """Observations in key order, none twice.

    user_id, metric: (rows,) object, str. times: (rows,) int64 microseconds since 1970 UTC.
    values: (rows,) float64, finite.
    """

    user_id: NDArray[np.object_]
    metric: NDArray[np.object_]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def first_seen(self) -> dict[str, dt.datetime]:
        """The earliest time of each metric, aware UTC."""
        names, codes = np.unique(self.metric, return_inverse=True)
        earliest = np.full(len(names), np.iinfo(np.int64).max)
        np.minimum.at(earliest, codes, self.times)
        return {str(name): instant(time) for name, time in zip(names, earliest, strict=True)}

    def table(self) -> pa.Table:
        """The same as Arrow, columns in the order of the database's table."""
        return pa.table(
            {
                "user_id": pa.array(self.user_id, pa.string()),
                "observed_at": pa.array(self.times).cast(SCHEMA.field("observed_at").type),
                "metric": pa.array(self.metric, pa.string()),
                "value": self.values,
            }
        )


class Observations:
    """What was observed of users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, rows: pa.Table, source: str) -> Written:
        """Add rows in one transaction; a known key gets the new value, an equal row changes nothing.

        Args: rows: user_id, metric, observed_at (with a zone), value; in any order. Of a key that
            comes twice the later row counts. source: names the rows in messages.
        Raises: DataError if a row cannot be stored; SourceError if the database fails.
        """
        ordered = sort(rows, source)
        if not len(ordered):
            return Written(0, 0, 0)
        bulk = postgres.upsert if self._database.postgres else sqlite.upsert

        def work(connection: Connection) -> Written:
            inserted, corrected = bulk(connection, ordered)
            self._note_metrics(connection, ordered.first_seen())
            return Written(inserted, len(ordered) - inserted - corrected, corrected)

        return self._database.write(work)

    def read(
        self,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        users: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Rows of [start, end), of these users or all, in tables of some 200,000 rows.

        Sorted by user_id, observed_at and metric, byte by byte, over the whole iteration. All
        tables show the database as it was at the first.
        Raises: SourceError if the database fails.
        """
        wanted = None if users is None else sorted(set(users))
        if wanted == []:
            return iter(())
        read = postgres.read if self._database.postgres else sqlite.read
        span = (start or EARLIEST, end or LATEST)
        return self._database.stream(lambda: read(self._database.engine, *span, wanted))

    def any(self) -> bool:
        """Whether there are rows."""
        query = sa.select(observations.c.user_id).limit(1)
        return self._database.read(lambda c: c.execute(query).first()) is not None

    def users(self) -> list[str]:
        """Everyone with a row, in byte order."""
        return list(self._database.read(lambda c: c.execute(_ALL_USERS).scalars().all()))

    def metrics(self, before: dt.datetime | None = None) -> list[str]:
        """The names of metrics, in byte order; `before`: only those that had a row by then."""
        query = sa.select(metrics.c.metric).order_by(metrics.c.metric)
        if before is not None:
            query = query.where(metrics.c.first_seen < before)
        return list(self._database.read(lambda c: c.execute(query).scalars().all()))

    def first_seen(self, users: Sequence[str] | None = None) -> dict[str, dt.datetime]:
        """The time of each user's first row, aware UTC; users without rows are left out."""
        return self._edges(sa.func.min(observations.c.observed_at), users, None)

    def last_seen(
        self, users: Sequence[str] | None = None, before: dt.datetime | None = None
    ) -> dict[str, dt.datetime]:
        """The time of each user's last row, or of the last one before an instant, aware UTC."""
        return self._edges(sa.func.max(observations.c.observed_at), users, before)

    def span(self) -> tuple[dt.datetime, dt.datetime] | None:
        """The times of the first and the last row, aware UTC; None without rows."""
        first, last = self.first_seen(), self.last_seen()
        return (min(first.values()), max(last.values())) if first else None

    def count(self, start: dt.datetime | None = None, end: dt.datetime | None = None) -> int:
        """How many rows [start, end) holds."""
        known = _ALL_USERS.columns(observations.c.user_id).subquery("everyone")
        # Counted user by user: a month is then a short stretch of each, not the whole table.
        rows = (
            sa.select(sa.func.count())
            .where(observations.c.user_id == known.c.user_id)
            .where(observations.c.observed_at >= (start or EARLIEST))
            .where(observations.c.observed_at < (end or LATEST))
            .correlate(known)
            .scalar_subquery()
        )
        query = sa.select(sa.func.coalesce(sa.func.sum(rows), 0)).select_from(known)
        return int(self._database.read(lambda c: c.execute(query).scalar_one()))

    def _edges(
        self,
        edge: sa.Function[dt.datetime],
        users: Sequence[str] | None,
        before: dt.datetime | None,
    ) -> dict[str, dt.datetime]:
        """The first or last time of each user; two leaps along the key for each."""
        known = self.users() if users is None else list(dict.fromkeys(users))
        everyone = _listed(self._database.postgres)
        query = sa.select(edge).where(observations.c.user_id == everyone.c.user_id)
        if before is not None:
            query = query.where(observations.c.observed_at < before)
        found = sa.type_coerce(
            query.correlate(everyone).scalar_subquery(), observations.c.observed_at.type
        )
        statement = sa.select(everyone.c.user_id, found)
        parameter = _as_list(known, self._database.postgres)
        rows = self._database.read(lambda c: c.execute(statement, {"users": parameter}).all())
        return {user: when for user, when in rows if when is not None}

    def _note_metrics(self, connection: Connection, first_seen: dict[str, dt.datetime]) -> None:
        insert = self._database.insert(metrics)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[metrics.c.metric],
                set_={"first_seen": insert.excluded.first_seen},
                where=insert.excluded.first_seen < metrics.c.first_seen,
            ),
            [{"metric": name, "first_seen": when} for name, when in first_seen.items()],
        )


def sort(rows: pa.Table, source: str) -> Sorted:
    """Check rows and put them in key order; of a key that comes twice the later row stays.

    Raises: DataError for a missing column, a null, a value that is not finite, a time without zone,
        or a name that is empty, longer than LONGEST_NAME bytes or holds a NUL.
    """
    _check_columns(rows, source)
    try:
        table = rows.select(SCHEMA.names).cast(SCHEMA, safe=False).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{source}: the rows' types do not fit ({error}).") from error
    _check_values(table, source)
    user_names, users = _codes(table["user_id"], "user_id", source)
    metric_names, kinds = _codes(table["metric"], "metric", source)
    times = table["observed_at"].cast(pa.int64()).to_numpy()
    order = np.lexsort((kinds, times, users))
    users, times, kinds = users[order], times[order], kinds[order]
    # lexsort is stable, so the last of equal keys is the one that came last.
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = (np.diff(users) != 0) | (np.diff(times) != 0) | (np.diff(kinds) != 0)
    # Adding zero makes -0.0, which SQLite cannot keep, 0.0.
    values = table["value"].to_numpy()[order][last] + 0.0
    return Sorted(user_names[users[last]], metric_names[kinds[last]], times[last], values)


def instant(microseconds: int | np.int64) -> dt.datetime:
    """Microseconds since 1970 UTC as an aware datetime."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(microseconds))


def _check_columns(rows: pa.Table, source: str) -> None:
    missing = [name for name in SCHEMA.names if name not in rows.column_names]
    if missing:
        raise DataError(
            f"{source}: column {missing[0]!r} is missing among {rows.column_names}. "
            f"Observations have {', '.join(SCHEMA.names)}."
        )
    kind = rows.schema.field("observed_at").type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise DataError(f"{source}: observed_at is {kind}; it must be a timestamp with a zone.")


def _check_values(table: pa.Table, source: str) -> None:
    for name in SCHEMA.names:
        if table[name].null_count:
            raise DataError(
                f"{source}: {name} is null in {table[name].null_count} rows. Set them aside."
            )
    finite = np.isfinite(table["value"].to_numpy())
    if not finite.all():
        raise DataError(
            f"{source}: value is not finite in {int((~finite).sum())} rows. Set them aside."
        )


def _codes(
    column: pa.ChunkedArray, what: str, source: str
) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The distinct names in byte order, and each row's position among them."""
    import pyarrow.compute as pc

    encoded = column.combine_chunks().dictionary_encode()
    names = encoded.dictionary
    _check_names(names, what, source)
    order = pc.sort_indices(names).to_numpy()
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    codes = place[encoded.indices.to_numpy()]
    return names.take(pa.array(order)).to_numpy(zero_copy_only=False), codes


def _check_names(names: pa.StringArray, what: str, source: str) -> None:
    import pyarrow.compute as pc

    size = pc.binary_length(names)
    if pc.any(pc.greater(size, LONGEST_NAME)).as_py():
        raise DataError(
            f"{source}: a {what} is {pc.max(size).as_py()} bytes long, at most {LONGEST_NAME} can "
            "be stored. Set its rows aside or shorten it."
        )
    if pc.any(pc.equal(size, 0)).as_py():
        raise DataError(f"{source}: a {what} is empty. Set its rows aside.")
    if pc.any(pc.match_substring(names, "\0")).as_py():
        raise DataError(f"{source}: a {what} holds a NUL character. Set its rows aside.")


def _listed(is_postgres: bool) -> sa.Subquery:
    """The users given as the one parameter :users, as a table."""
    words = (
        'SELECT unnest(CAST(:users AS text[])) COLLATE "C" AS user_id'
        if is_postgres
        else "SELECT value AS user_id FROM json_each(:users)"
    )
    return sa.text(words).columns(observations.c.user_id).subquery("everyone")


def _as_list(users: Iterable[str], is_postgres: bool) -> object:
    return list(users) if is_postgres else sqlite.json_list(users)
