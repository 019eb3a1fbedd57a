"""Parquet files read where they lie: what each holds is written down once, its rows are not copied.

A file is looked over when it is first seen, or seen to have changed: its rows are checked, and who is
in it, from when until when, goes into a small file of the index. A month's run then opens the few files
that hold its users and its month. The index may be deleted; it is made again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anomaly.exceptions import SourceError, UsageError
from anomaly.rows import SCHEMA, run_starts
from anomaly.sources.batch import Tally
from anomaly.sources.cleaning import Cleaner, Inspecting, Trusting
from anomaly.sources.files import files_of, is_parquet
from anomaly.sources.parquet import group_bounds, read_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from anomaly.sources.batch import Batch, Reject
    from anomaly.sources.cleaning import Checks

FORMAT = 1  # rises when what is written down of a file changes
NOTES = b"anomaly"
MOST_READINGS = 4.0  # of each row, on average, by all shards together: beyond it copying is cheaper
CODED = pa.dictionary(pa.int32(), pa.string())
READ = pa.schema(
    [(field.name, CODED if field.type == pa.string() else field.type) for field in SCHEMA]
)
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FOREVER = (np.iinfo(np.int64).min, np.iinfo(np.int64).max)


PEOPLE = pa.schema(
    [("user_id", pa.string()), ("rows", pa.int64()), ("first", pa.int64()), ("last", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Whole:
    """A file that was looked over to its end. people: everyone in it (PEOPLE); arrived: when it came
    here or was last changed, aware UTC.
    """

    people: pa.Table
    arrived: dt.datetime


@dataclass(frozen=True, slots=True)
class Looked:
    """Rows looked over: good ones, those set aside, those that repeat another; the newest time so far
    in this file, aware UTC. whole: with its last rows, the file. passed: columns passed over, then too.
    """

    rows: int
    rejects: list[Reject]
    joined: int
    newest: dt.datetime | None
    whole: Whole | None = None
    passed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Contents:
    """What is known of one file. people: user_id, rows, first, last (microseconds UTC) of each user, in
    byte order. metrics: microseconds UTC at which each is first seen. groups: rows and least and
    greatest user of each row group. clean: every row is good, and they rise by user, time and metric.
    """

    file: Path
    people: pa.Table
    metrics: Mapping[str, int]
    groups: Sequence[tuple[int, str | None, str | None]]
    clean: bool

    @cached_property
    def users(self) -> list[str]:
        """Everyone in it, in byte order."""
        return list(self.people["user_id"].to_pylist())

    @cached_property
    def span(self) -> tuple[int, int]:
        """Its first and last time, microseconds UTC; FOREVER turned round where it has no rows."""
        if not len(self.people):
            return FOREVER[1], FOREVER[0]
        return pc.min(self.people["first"]).as_py(), pc.max(self.people["last"]).as_py()

    def holds(self, start: int, end: int, users: Sequence[str] | None) -> bool:
        """Whether it may have rows of [start, end), microseconds UTC, of these users (in byte order)."""
        first, last = self.span
        if last < start or first >= end:
            return False
        if users is None:
            return True
        if (
            users[-1].encode() < self.users[0].encode()
            or users[0].encode() > self.users[-1].encode()
        ):
            return False
        return not self._everyone.isdisjoint(users)

    @cached_property
    def _everyone(self) -> frozenset[str]:
        return frozenset(self.users)


class Placed:
    """Observations in a Parquet file or folder. Methods as those of the store's observations."""

    def __init__(
        self,
        path: Path,
        index: Path,
        checks: Callable[[], Checks],
        columns: Mapping[str, str] | None = None,
        metric: str | None = None,
    ) -> None:
        self._path, self._index, self._asked = path, index, checks
        self._root = path if path.is_dir() else path.parent
        self._columns, self._metric = columns, metric
        self._known: dict[str, Contents] = {}

    @property
    def _checks(self) -> Checks:
        """What rows are held against now: the clock moves on."""
        return self._asked()

    def forget(self) -> None:
        """Delete the index: who is in the files is known no more."""
        self._known.clear()
        shutil.rmtree(self._index, ignore_errors=True)

    def is_parquet(self) -> bool:
        """Whether all files are Parquet: others have no groups that could be passed over."""
        return all(is_parquet(file) for file in files_of(self._path))

    def look_over(self, max_rejected: float) -> Iterator[Looked]:
        """Check the files that are new or have changed and enter them into the index.

        Raises: SourceError, DataError as `read_file`; DataError for a file with a larger share of bad
            rows, which is not entered.
        """
        for file in self._files():
            if self._kept(file) is not None:
                continue
            seen, inspecting = _Seen(), Inspecting(self._checks)
            passed: frozenset[str] = frozenset()
            for batch in self._batches(file, inspecting):
                seen.add(batch.table)
                passed |= set(batch.passed)
            if inspecting.faultless:
                yield Looked(seen.rows, [], 0, seen.newest, _whole(file, seen), passed)
            else:
                seen = yield from self._sifted(file, max_rejected)
                yield Looked(0, [], 0, seen.newest, _whole(file, seen), passed)
            self._keep(file, seen, clean=inspecting.faultless)

    def _sifted(self, file: Path, max_rejected: float) -> Generator[Looked, None, _Seen]:
        seen, tally, cleaner = _Seen(), Tally(), Cleaner(self._checks)
        for batch in self._batches(file, cleaner):
            seen.add(batch.table.cast(READ))
            tally.add(batch)
            yield Looked(len(batch.table), batch.rejects, batch.joined, seen.newest)
        tally.refuse_beyond(max_rejected, file.name)
        return seen

    def fits(self, shard_users: int) -> bool:
        """Whether the files are arranged by user, so that shards of so many do not read all of them."""
        users = [user.encode() for user in self.users()]
        if not users or any(contents is None for contents in map(self._kept, self._files())):
            return False
        starts = users[::shard_users]
        read = total = 0
        for contents in self._contents():
            for rows, low, high in contents.groups:
                first = (
                    0 if low is None else int(np.searchsorted(starts, low.encode(), "right")) - 1
                )
                last = (
                    len(starts)
                    if high is None
                    else int(np.searchsorted(starts, high.encode(), "right"))
                )
                read += rows * (last - max(first, 0))
                total += rows
        return read <= MOST_READINGS * total

    def read(
        self,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
        users: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Rows of [start, end), of these users or all; names as codes into dictionaries."""
        wanted = None if users is None else sorted(set(users), key=str.encode)
        if wanted == []:
            return
        first, last = _microseconds(start, FOREVER[0]), _microseconds(end, FOREVER[1])
        for contents in self._contents():
            if contents.holds(first, last, wanted):
                yield from self._rows(contents, start, end, wanted)

    def write(self, rows: pa.Table, source: str) -> NoReturn:
        """Refuse: the files belong to somebody else."""
        raise UsageError(
            f"{source}: {len(rows)} rows cannot be added to {self._path}, which is read in place. Put "
            "their file there, or leave out [source] path and import everything."
        )

    def users(self) -> list[str]:
        """Everyone with a row, in byte order."""
        found: set[str] = set().union(*(contents.users for contents in self._contents()))
        return sorted(found, key=str.encode)

    def metrics(self, before: dt.datetime | None = None) -> list[str]:
        """The names of metrics, in byte order; `before`: only those that had a row by then."""
        until = _microseconds(before, FOREVER[1])
        found = {
            name
            for contents in self._contents()
            for name, first in contents.metrics.items()
            if first < until
        }
        return sorted(found, key=str.encode)

    def first_seen(self, users: Sequence[str] | None = None) -> dict[str, dt.datetime]:
        """The time of each user's first row, aware UTC; users without rows are left out."""
        return _instants(self._people(users), "first", "min")

    def last_seen(
        self, users: Sequence[str] | None = None, before: dt.datetime | None = None
    ) -> dict[str, dt.datetime]:
        """The time of each user's last row, or of the last one before an instant, aware UTC."""
        return _instants(self._people(users, end=before), "last", "max")

    def span(self) -> tuple[dt.datetime, dt.datetime] | None:
        """The times of the first and the last row, aware UTC; None without rows."""
        spans = [contents.span for contents in self._contents() if len(contents.people)]
        if not spans:
            return None
        return _instant(min(first for first, _ in spans)), _instant(max(last for _, last in spans))

    def count(self, start: dt.datetime | None = None, end: dt.datetime | None = None) -> int:
        """How many rows [start, end) holds."""
        return int(pc.sum(self._people(None, start, end)["rows"]).as_py() or 0)

    def _people(
        self,
        users: Sequence[str] | None,
        start: dt.datetime | None = None,
        end: dt.datetime | None = None,
    ) -> pa.Table:
        """Each file's users with rows in [start, end): whole files by the index, others by their rows."""
        first, last = _microseconds(start, FOREVER[0]), _microseconds(end, FOREVER[1])
        tables = [PEOPLE.empty_table()]
        for contents in self._contents():
            if not contents.holds(first, last, None):
                continue
            if first <= contents.span[0] and contents.span[1] < last:
                tables.append(contents.people)
            else:
                seen = _Seen()
                for table in self._rows(contents, start, end, None):
                    seen.add(table)
                tables.append(seen.people())
        joined = pa.concat_tables(tables)
        return (
            joined
            if users is None
            else joined.filter(pc.is_in(joined["user_id"], pa.array(users, pa.string())))
        )

    def _rows(
        self,
        contents: Contents,
        start: dt.datetime | None,
        end: dt.datetime | None,
        users: Sequence[str] | None,
    ) -> Iterator[pa.Table]:
        checks = replace(
            self._checks,
            start=None if start is None else int(start.timestamp()),
            end=None if end is None else int(end.timestamp()),
            users=None if users is None else frozenset(users),
        )
        cleaner = Trusting(checks) if contents.clean else Cleaner(checks)
        for batch in self._batches(contents.file, cleaner):
            if len(batch.table):
                yield batch.table.cast(READ)

    def _batches(self, file: Path, cleaner: Cleaner) -> Iterator[Batch]:
        try:
            yield from read_parquet(file, self._root, self._columns, self._metric, cleaner)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise SourceError(
                f"{file}: cannot be read ({reason}). Check the path and its rights."
            ) from error

    def _files(self) -> list[Path]:
        return files_of(self._path)

    def _contents(self) -> list[Contents]:
        return [contents for contents in map(self._kept, self._files()) if contents is not None]

    def _name(self, file: Path) -> str:
        """Its name in the index: another one when the file changes, or how it is read."""
        state = file.stat()
        read = [self._columns, self._metric, self._checks.timezone, sorted(self._checks.counts)]
        place = str(file.relative_to(self._root))
        words = json.dumps([FORMAT, place, state.st_size, state.st_mtime_ns, read], sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()[:32] + ".parquet"

    def _kept(self, file: Path) -> Contents | None:
        name = self._name(file)
        if name not in self._known and (self._index / name).exists():
            table = pq.read_table(self._index / name)
            notes = json.loads(table.schema.metadata[NOTES])
            groups = [(rows, low, high) for rows, low, high in notes["groups"]]
            self._known[name] = Contents(
                file, table.replace_schema_metadata(None), notes["metrics"], groups, notes["clean"]
            )
        return self._known.get(name)

    def _keep(self, file: Path, seen: _Seen, *, clean: bool) -> None:
        groups = group_bounds(file, self._root, self._columns, self._metric)
        notes = {"metrics": seen.metrics, "groups": groups, "clean": clean}
        table = seen.people().replace_schema_metadata({NOTES: json.dumps(notes).encode()})
        self._index.mkdir(parents=True, exist_ok=True)
        name = self._name(file)
        half = self._index / f".{name}.half"
        pq.write_table(table, half, compression="zstd")
        half.rename(self._index / name)


class _Seen:
    """Adds up who and what is in a file's rows, table by table (READ)."""

    def __init__(self) -> None:
        self.rows = 0
        self.newest: dt.datetime | None = None
        self.metrics: dict[str, int] = {}
        self._people: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Take in some rows."""
        if not len(table):
            return
        self.rows += len(table)
        times = table["observed_at"].combine_chunks().cast(pa.int64()).to_numpy()
        self._people.append(_by_name(table["user_id"].combine_chunks(), times))
        newest = _instant(int(times.max()))
        self.newest = newest if self.newest is None else max(self.newest, newest)
        names = table["metric"].combine_chunks()
        earliest = np.full(len(names.dictionary), FOREVER[1])
        np.minimum.at(earliest, names.indices.to_numpy(), times)
        for name, first in zip(names.dictionary.to_pylist(), earliest.tolist(), strict=True):
            if first < FOREVER[1]:
                self.metrics[name] = min(self.metrics.get(name, first), first)

    def people(self) -> pa.Table:
        """PEOPLE, in byte order."""
        if not self._people:
            return PEOPLE.empty_table()
        return _joined(pa.concat_tables(self._people)).cast(PEOPLE).sort_by("user_id")


def _whole(file: Path, seen: _Seen) -> Whole:
    state = file.stat()
    # A copy may keep the time of its original; when it was put here it cannot.
    return Whole(
        seen.people(), dt.datetime.fromtimestamp(max(state.st_mtime, state.st_ctime), dt.UTC)
    )


def _by_name(names: pa.DictionaryArray, times: NDArray[np.int64]) -> pa.Table:
    """PEOPLE of these rows. Those of one user that follow one another are first taken together."""
    codes = names.indices.to_numpy()
    runs = run_starts(codes)
    whose, sizes = codes[runs], np.diff(runs, append=len(codes))
    rows = np.bincount(whose, sizes, len(names.dictionary)).astype(np.int64)
    first, last = np.full(len(rows), FOREVER[1]), np.full(len(rows), FOREVER[0])
    np.minimum.at(first, whose, np.minimum.reduceat(times, runs))
    np.maximum.at(last, whose, np.maximum.reduceat(times, runs))
    seen = np.flatnonzero(rows)
    users = names.dictionary.take(pa.array(seen))
    return pa.table([users, rows[seen], first[seen], last[seen]], schema=PEOPLE)


def _joined(people: pa.Table) -> pa.Table:
    """One row for each user, by name or code."""
    found = people.group_by("user_id").aggregate(
        [("rows", "sum"), ("first", "min"), ("last", "max")]
    )
    return found.rename_columns(PEOPLE.names)


def _instants(people: pa.Table, column: str, how: str) -> dict[str, dt.datetime]:
    found = people.group_by("user_id").aggregate([(column, how)])
    times = found[f"{column}_{how}"].cast(SCHEMA.field("observed_at").type)
    return dict(zip(found["user_id"].to_pylist(), times.to_pylist(), strict=True))


def _instant(microseconds: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=microseconds)


def _microseconds(when: dt.datetime | None, otherwise: int) -> int:
    return otherwise if when is None else (when - EPOCH) // dt.timedelta(microseconds=1)
