"""Looks at everything a first run leans on, and says what is wrong before it is relied on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa

from anomaly.exceptions import AnomalyError, DataError
from anomaly.months import local_days, month_of
from anomaly.telemetry.logs import without_password
from anomaly.wording import counted
from pipelines.jobs.reading import sample, step_seconds
from pipelines.jobs.train import known_metrics

if TYPE_CHECKING:
    from anomaly.months import Month
    from anomaly.settings import SourceSettings
    from pipelines.services import Services

PROBE = "check"  # the lease that is taken to see whether the database can be written
SAMPLE_USERS = 500  # whose rows are looked at for days without any
SHOWN_DAYS = 5
AHEAD_OF_CLOCK = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. error: what is wrong with it, or None."""

    what: str
    remark: str
    error: AnomalyError | None = None


def run_checks(open_services: Callable[[], Services]) -> list[Check]:
    """Settings (read already), database, artefacts, source, data; the later need the earlier."""
    checks = [Check("settings", "read and understood")]
    try:
        services = open_services()
    except AnomalyError as error:
        return [*checks, Check("database", str(error), error)]
    checks.append(_database(services))
    for what, look in (
        ("models", _models),
        ("source", _source),
        ("observations", _observations),
        ("history", _history),
        ("newest month", _newest_month),
    ):
        try:
            checks.append(Check(what, look(services)))
        except AnomalyError as error:
            checks.append(Check(what, str(error), error))
    return checks


def _database(services: Services) -> Check:
    """Whether it can be written, and by whose clock."""
    lease, now = services.store.lease, services.clock()
    place = without_password(services.settings.database.url)
    try:
        token = lease.acquire(PROBE, services.holder, dt.timedelta(seconds=1), now)
        if token is not None:
            lease.release(PROBE, services.holder, token)
    except AnomalyError as error:
        return Check("database", f"{place}: it cannot be written ({error})", error)
    return Check("database", f"{place}: it can be written")


def _models(services: Services) -> str:
    champion = services.store.models.champion()
    if champion is None:
        return "none yet; the first run trains one"
    services.artefacts.read(champion.address, champion.sha256)
    return f"champion {champion.version}, its files are whole"


def _source(services: Services) -> str:
    settings = services.settings.source
    if settings.reader is not None:
        from anomaly.sources.readers import open_reader

        until = services.clock()
        since = until - dt.timedelta(days=1)
        reader = open_reader(settings.reader, settings.options)
        read = sum(len(table) for table in reader.read(since, until, step_seconds(services)))
        return f"{settings.reader}: {read} rows of the last day read"
    if settings.url is None:
        if settings.path is None:
            return "none configured: rows come by anomaly import"
        return f"{settings.path}: {_files(Path(settings.path))}"
    from anomaly.sources.database import read_sql

    since = services.clock() - dt.timedelta(days=1)
    batch = next(iter(read_sql(settings, since, services.clock())), None)
    rows = 0 if batch is None else batch.read
    return f"{without_password(settings.url)}: {rows} rows of the last day read"


def _files(path: Path) -> str:
    """What lies there.

    Raises: SourceError if nothing can be read there.
    """
    from anomaly.sources.files import files_of

    files = files_of(path)
    return f"{counted(len(files), 'file')}, {sum(file.stat().st_size for file in files):,} bytes"


def _reads_rows(source: SourceSettings) -> bool:
    """Whether a run reads rows by itself."""
    return source.url is not None or source.reader is not None or source.path is not None


def _observations(services: Services) -> str:
    span = services.store.observations.span()
    if span is None and _reads_rows(services.settings.source):
        return "none yet; the first run reads them from the source"
    if span is None:
        raise DataError("the database holds no observations. Import some: anomaly import FILE")
    rejected = services.store.rejects.counts()
    users = len(services.store.observations.users())
    metrics = known_metrics(services, span[1] + dt.timedelta(days=1))
    return (
        f"{services.store.observations.count():,} rows, {users} users, {len(metrics)} metrics, "
        f"{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}"
        + (f"; set aside {rejected}" if rejected else "")
    )


def _history(services: Services) -> str:
    span = services.store.observations.span()
    if span is None and _reads_rows(services.settings.source):
        return "not known before the source has been read"
    if span is None:
        raise DataError("there is no history to learn from.")
    first, last = (month_of(when, services.timezone) for when in span)
    if first == last:
        raise DataError(
            f"all rows are of {first}: a month is scored against the months before it. Import "
            "earlier ones."
        )
    return f"{first.next()} is the first month that can be run"


def _newest_month(services: Services) -> str:
    """Gaps, and who would be left out, in the month of the newest row; rows that are ahead of the clock."""
    store, zone = services.store.observations, services.timezone
    span = store.span()
    if span is None:
        return "not known before the source has been read"
    month = month_of(span[1], zone)
    last = store.last_seen()
    silent = sum(when < month.start(zone) for when in last.values())
    remarks = [_gaps(services, month), f"{silent} of {len(last)} users without a row in {month}"]
    ahead = span[1] - services.clock()
    if ahead > AHEAD_OF_CLOCK:
        remarks.append(
            f"the newest row is {ahead.total_seconds() / 60:.0f} minutes ahead of this clock"
        )
    return "; ".join(remarks)


def _gaps(services: Services, month: Month) -> str:
    """Days of the month, as far as it has gone, on which none of a sample of users has a row."""
    store, zone = services.store.observations, services.timezone
    start = month.start(zone)
    until = min(month.end(zone), services.clock())
    edges = [*local_days(int(start.timestamp()), int(until.timestamp()), zone).tolist()]
    users = sample(store.users(), SAMPLE_USERS)
    seen: set[int] = set()
    for table in store.read(start, until, users):
        times = table["observed_at"].cast(pa.int64()).to_numpy() // 1_000_000
        seen |= set(np.searchsorted(edges, times, "right").tolist())
    days = [
        f"{dt.datetime.fromtimestamp(edge, dt.UTC).astimezone(ZoneInfo(zone)):%Y-%m-%d}"
        for place, edge in enumerate(edges, 1)
        if place not in seen and edge < until.timestamp()
    ]
    if not days:
        return f"rows on every day of {month} so far"
    more = ", …" if len(days) > SHOWN_DAYS else ""
    return (
        f"no rows on {counted(len(days), 'day')} of {month}: {', '.join(days[:SHOWN_DAYS])}{more}"
    )
