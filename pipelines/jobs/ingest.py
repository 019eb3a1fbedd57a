"""Rows from files or from somebody else's database into `observations`.

Clean rows wait on disk until the whole source is read: a source with too many bad rows is refused
before a single row of it is written. Writing is keyed, so an interrupted ingest is made good by
doing it again. Bad rows are kept in `rejects` with their reason either way.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog
from sqlalchemy.engine import make_url

from anomaly.exceptions import DataError, SettingsError, SourceError
from anomaly.months import parse_duration
from anomaly.rows import SCHEMA
from anomaly.sources.batch import Batch, Reject, Tally
from pipelines.door import keep_names, open_door
from pipelines.exclusive import exclusive
from pipelines.jobs.books import failing, staged
from pipelines.jobs.late import closed, note_people, note_rows
from pipelines.jobs.people import read_calendar_of_source
from pipelines.jobs.reading import step_seconds
from pipelines.services import AHEAD, checks_of, place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.settings import SourceSettings
    from anomaly.sources.cleaning import Checks
    from anomaly.sources.placed import Placed
    from anomaly.store import Run
    from pipelines.services import Services

KEPT_REJECTS = 1_000  # rows of each reason and ingest that are kept word for word; all are counted


@dataclass(slots=True)
class Ingested:
    """What an ingest did. newest: the latest observed_at, aware UTC, or None without rows. late: users
    with rows of months that are closed.
    """

    source: str
    tally: Tally = field(default_factory=Tally)
    inserted: int = 0
    corrected: int = 0
    unchanged: int = 0
    newest: dt.datetime | None = None
    late: frozenset[str] = frozenset()

    def see(self, when: dt.datetime | None) -> None:
        """Note the time of a row."""
        if when is not None:
            self.newest = when if self.newest is None else max(self.newest, when)


def ingest_file(
    services: Services,
    path: Path,
    columns: Mapping[str, str] | None = None,
    metric: str | None = None,
) -> Ingested:
    """Import one CSV or Parquet file, or a folder of Parquet files.

    Raises: SourceError if it cannot be read; DataError if too many of its rows are bad; BusyError.
    """
    from anomaly.sources import read_file

    with exclusive(services):
        batches = read_file(path, columns or None, metric=metric, checks=checks(services))
        return ingest(services, path.name, _never_empty(batches, path))


def ingest_source(
    services: Services,
    planned_for: dt.datetime | None = None,
    late_since: dt.datetime | None = None,
) -> Ingested | None:
    """Read what is new in [source]; None where no source is configured. The lease is held already.

    A database is read from its watermark, less [source] overlap for late rows, or from `late_since`
    where that is earlier; of Parquet files that are read in place only what is new is looked over,
    others are copied as a whole.
    Raises: as `ingest_file`; SettingsError if both a url and a path are set.
    """
    settings = services.settings.source
    if settings.url is not None and settings.path is not None:
        raise SettingsError("[source] url and path: only one source can be read. Leave one out.")
    if settings.url is None and (settings.calendar_table or settings.calendar_query):
        raise SettingsError(
            "[source] calendar_table and calendar_query are read of the database at [source] url, and "
            "there is none. Import a file instead: anomaly import --calendar FILE"
        )
    if settings.reader is not None:
        return ingest_reader(services, settings.reader, planned_for, late_since)
    if settings.path is not None:
        return ingest_files(services, Path(settings.path), planned_for)
    if settings.url is None:
        return None
    from anomaly.sources.database import read_sql

    name = database_name(settings.url, settings.table)
    batches = read_sql(
        settings,
        read_since(services, name, late_since),
        services.clock() + AHEAD,
        step=step_seconds(services),
        grid_timezone=services.timezone,
        checks=checks(services),
    )
    done = ingest(services, name, batches, planned_for)
    read_calendar_of_source(services)
    return done


def read_since(
    services: Services, source: str, late_since: dt.datetime | None
) -> dt.datetime | None:
    """From when on a source is read: its watermark less the overlap, or earlier; None: everything."""
    watermark = services.store.ledger.watermark(source)
    if watermark is None:
        return None
    since = watermark - parse_duration(services.settings.source.overlap)
    return since if late_since is None else min(since, late_since)


def ingest_reader(
    services: Services,
    name: str,
    planned_for: dt.datetime | None = None,
    late_since: dt.datetime | None = None,
) -> Ingested:
    """Read what is new by a reader that [source] names."""
    from anomaly.sources.readers import open_reader, read_batches

    settings = services.settings.source
    reader, source = open_reader(name, settings.options), reader_name(name)
    # Earlier builds called a reader by its name alone.
    known = name if services.store.ledger.watermark(source) is None else source
    since = read_since(services, known, late_since)
    until = services.clock() + AHEAD
    batches = read_batches(reader, name, since, until, step_seconds(services), checks(services))
    return ingest(services, source, batches, planned_for)


def ingest_files(
    services: Services, path: Path, planned_for: dt.datetime | None = None
) -> Ingested:
    """Look over the new ones of files that are read in place; copy those that cannot be.

    They cannot be where they are not arranged by user, where some are no Parquet, where the database
    holds rows already, or where a user was erased, whose rows the files still have.
    """
    from anomaly.sources import read_file

    settings, store = services.settings.source, services.store
    placed = place(services.settings, store, services.artefacts.folder, services.clock)
    if placed is not None and placed.is_parquet():
        if not store.kept.any() and not store.erasing.erased():
            done = look_over(services, path.name, placed, planned_for)
            if store.in_place:
                return done
        structlog.get_logger().info("files_copied", source=path.name)
        placed.forget()
    batches = read_file(
        path, settings.columns or None, metric=settings.metric, checks=checks(services)
    )
    return ingest(services, path.name, batches, planned_for)


def look_over(
    services: Services, source: str, placed: Placed, planned_for: dt.datetime | None = None
) -> Ingested:
    """Check what is new in files that are read in place, with a row in the ledger.

    Raises: DataError if more than [source] max_rejected of the new rows are bad.
    """
    with (
        ingesting(services, source, planned_for) as (run, done),
        staged(services, run, "read") as counts,
    ):
        known = closed(services)
        with services.progress.track(f"looking over {source}", 0) as advance:
            for looked in placed.look_over(services.settings.source.max_rejected):
                keep_rejects(services, done, looked.rejects)
                read = looked.rows + len(looked.rejects) + looked.joined
                done.tally.count(read, looked.rejects, looked.joined)
                done.tally.passed |= looked.passed
                done.see(looked.newest)
                if looked.whole is not None:
                    whole = looked.whole
                    done.late |= note_people(services, whole.people, whole.arrived, known)
                advance(read)
        counts.rows = done.tally.read
        say_passed(done)
    return done


def say_passed(done: Ingested) -> None:
    """Name the columns of files that were passed over: whoever misses a metric looks for it here."""
    if done.tally.passed:
        columns = sorted(done.tally.passed)
        structlog.get_logger().info("columns_passed_over", source=done.source, columns=columns)


def _never_empty(batches: Iterable[Batch], path: Path) -> Iterator[Batch]:
    """Refuse a file without a single row: whoever names a file expects something of it."""
    read = 0
    for batch in batches:
        read += batch.read
        yield batch
    if read == 0:
        raise DataError(f"{path}: it holds no rows. Give a file with observations.")


def checks(services: Services) -> Checks:
    """What rows are held against."""
    return checks_of(services.settings, services.clock())


def source_name(settings: SourceSettings) -> str | None:
    """How the ledger calls [source]; None where none is configured."""
    if settings.reader is not None:
        return reader_name(settings.reader)
    if settings.path is not None:
        return Path(settings.path).name
    return None if settings.url is None else database_name(settings.url, settings.table)


def reader_name(name: str) -> str:
    """How the ledger calls a reader: no file is called so."""
    return f"reader:{name}"


def database_name(url: str, table: str | None) -> str:
    """How the ledger calls a database: by its name and table, never its host or user."""
    return f"{Path(make_url(url).database or '').name}:{table or 'query'}"


def ingest(
    services: Services,
    source: str,
    batches: Iterable[Batch],
    planned_for: dt.datetime | None = None,
) -> Ingested:
    """Take batches in, with a row in the ledger.

    Raises: DataError if more than [source] max_rejected of the rows are bad.
    """
    with ingesting(services, source, planned_for) as (run, done), spool() as clean:
        door = open_door(services)
        with staged(services, run, "read") as counts:
            for table in sift(services, done, map(door.batch, batches)):
                clean.add(table)
            counts.rows = done.tally.read
            counts.skipped = dict(done.tally.reasons)
        say_passed(done)
        done.tally.refuse_beyond(services.settings.source.max_rejected, source)
        with staged(services, run, "write") as counts:
            keep_names(services, door)
            write(services, done, clean)
            counts.rows = clean.rows
    return done


@contextmanager
def ingesting(
    services: Services, source: str, planned_for: dt.datetime | None
) -> Iterator[tuple[Run, Ingested]]:
    """An ingest in the ledger: what its body counts is written down, however it ends."""
    services.store.ledger.close_interrupted("ingest", services.clock())
    run = services.store.ledger.start(
        "ingest",
        configuration=services.configuration,
        code_version=services.code_version,
        now=services.clock(),
        holder=services.holder,
        planned_for=planned_for,
    )
    done = Ingested(source)
    with failing(services, run, lambda: figures(done)):
        yield run, done
        services.store.ledger.finish(
            run,
            "complete",
            services.clock(),
            watermark=newest_watermark(services, done),
            **figures(done),
        )


def figures(done: Ingested) -> dict[str, Any]:
    """What the ledger counts of an ingest, however it ends."""
    return {
        "rows_read": done.tally.read,
        "rows_rejected": dict(done.tally.reasons),
        "source": done.source,
    }


def newest_watermark(services: Services, done: Ingested) -> dt.datetime | None:
    """The newest row known of the source: it moves on, never back."""
    before = services.store.ledger.watermark(done.source)
    return max((when for when in (before, done.newest) if when is not None), default=None)


def sift(services: Services, done: Ingested, batches: Iterable[Batch]) -> Iterator[pa.Table]:
    """Count and keep what is bad; pass on what is clean."""
    with services.progress.track(f"reading {done.source}", 0) as advance:
        for batch in batches:
            keep_rejects(services, done, batch.rejects)
            done.tally.add(batch)
            advance(batch.read)
            if len(batch.table):
                done.see(pc.max(batch.table["observed_at"]).as_py())
                yield batch.table


def keep_rejects(services: Services, done: Ingested, rejects: Iterable[Reject]) -> None:
    """Keep the first bad rows of each reason word for word; all of them are counted."""
    kept: dict[str, list[tuple[str, str]]] = {}
    for reject in rejects:
        rows = kept.setdefault(reject.reason, [])
        if done.tally.reasons[reject.reason] + len(rows) < KEPT_REJECTS:
            rows.append((reject.location, reject.text))
    for reason, rows in kept.items():
        services.store.rejects.write(done.source, reason, rows, services.clock())


def write(services: Services, done: Ingested, clean: Spool) -> None:
    """Write the clean rows, a table at a time, each in a transaction of its own."""
    known = closed(services)
    with services.progress.track(f"writing {done.source}", clean.rows) as advance:
        for table in clean.tables():
            done.late |= note_rows(services, table, known)
            written = services.store.observations.write(table, done.source)
            done.inserted += written.inserted
            done.corrected += written.corrected
            done.unchanged += written.unchanged
            advance(len(table))


class Spool:
    """Tables in a file without a name: it is gone when the work is over, however it ends."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd")
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Append a table."""
        try:
            self._writer.write_table(table.select(SCHEMA.names).cast(SCHEMA))
        except OSError as error:
            raise SourceError(
                f"{tempfile.gettempdir()}: rows cannot be set down ({error}). Free space, or point "
                "TMPDIR at a larger disk."
            ) from error
        self.rows += len(table)

    def tables(self) -> Iterator[pa.Table]:
        """What was added, piece by piece."""
        self.close()
        self._file.seek(0)
        with pq.ParquetFile(self._file) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)

    def close(self) -> None:
        """End the file; twice does no harm."""
        if self._writer.is_open:
            self._writer.close()


@contextmanager
def spool() -> Iterator[Spool]:
    """A place on disk for clean rows."""
    with tempfile.TemporaryFile(prefix="anomaly-") as file:
        rows = Spool(file)
        try:
            yield rows
        finally:
            rows.close()
