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

from anomaly.exceptions import AnomalyError, DataError, SettingsError
from anomaly.months import local_days, month_of, months_between
from anomaly.networks import spec
from anomaly.sources.batch import Tally
from anomaly.telemetry import tracking
from anomaly.telemetry.logs import without_password
from anomaly.wording import counted
from pipelines.executors import refuse_missing
from pipelines.guard import refuse_unguarded
from pipelines.jobs.ingest import checks
from pipelines.jobs.reading import country_of, sample, step_seconds
from pipelines.jobs.retention import kept_since
from pipelines.jobs.tell import channels_of
from pipelines.jobs.train import can_train, known_metrics
from pipelines.schedule import Timetable
from pipelines.services import AHEAD, refuse_unserved

if TYPE_CHECKING:
    from anomaly.months import Month
    from anomaly.settings import Settings
    from pipelines.services import Services

PROBE = "check"  # the lease that is taken to see whether the database can be written
SAMPLE_USERS = 500  # whose rows are looked at for days without any
SHOWN_DAYS = 5
AHEAD_OF_CLOCK = dt.timedelta(minutes=10)
SKEW = dt.timedelta(seconds=10)  # of two clocks: a third of a lease, within which it is renewed
LOOKED_BACK = (1, 31)  # days of the source: where the last has no row, the last month
SAMPLE_ROWS = 1_000_000  # of the source that are looked at


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. error: what is wrong with it, or None."""

    what: str
    remark: str
    error: AnomalyError | None = None


READ = Check("settings", "read and understood")


def run_checks(open_services: Callable[[], Services]) -> list[Check]:
    """Settings, database, artefacts, source, data; the later need the earlier."""
    try:
        services = open_services()
    except SettingsError as error:
        return [Check("settings", str(error), error)]
    except AnomalyError as error:
        return [READ, Check("database", str(error), error)]
    refused = [*_extras(services.settings), *mistakes(services)]
    wrong = [Check("settings", str(error), error) for error in refused]
    found = [*(wrong or [READ]), _database(services)]
    for what, look in (
        ("clocks", _clocks),
        ("models", _models),
        ("source", _source),
        ("calendar", _calendar),
        ("observations", _observations),
        ("history", _history),
        ("newest month", _newest_month),
    ):
        try:
            found.append(Check(what, look(services)))
        except AnomalyError as error:
            found.append(Check(what, str(error), error))
    return found


def _extras(settings: Settings) -> list[SettingsError]:
    """What the settings lean on and is not installed, as far as this environment is the one to use it."""

    def track() -> None:
        if settings.telemetry.mlflow is not None and can_train(settings):
            tracking.refuse_missing()

    return _refused(lambda: refuse_missing(settings), track)


def mistakes(services: Services) -> list[SettingsError]:
    """What a later command refuses of the settings wherever it runs, each by that command's own rule."""
    settings = services.settings
    return _refused(
        lambda: refuse_unserved(settings),
        lambda: spec.refuse_unserved(settings.model),
        lambda: country_of(settings.calendar),
        lambda: Timetable(settings.schedule),
        lambda: kept_since(services),
        lambda: channels_of(settings.notify),
        # Whether somebody can is the database's to say, when it is served.
        lambda: refuse_unguarded(settings.web, somebody_can=True),
    )


def _refused(*rules: Callable[[], object]) -> list[SettingsError]:
    found = []
    for rule in rules:
        try:
            rule()
        except SettingsError as error:
            found.append(error)
    return found


def refuse_mistakes(services: Services) -> None:
    """Raises: SettingsError that names them all."""
    found = mistakes(services)
    if found:
        raise SettingsError(" ".join(map(str, found)))


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
    return f"{without_password(settings.url)}: {_rows_of(services)}"


def _rows_of(services: Services) -> str:
    """What the source's newest rows are like: how many, told twice, bad."""
    now = services.clock()
    for days in LOOKED_BACK:
        tally = _looked(services, now - dt.timedelta(days=days))
        if tally.read:
            source = services.settings.source
            tally.refuse_beyond(source.max_rejected, source.table or "[source] query")
            return _told(tally, days)
    return f"it answers; no rows in the last {LOOKED_BACK[-1]} days"


def _told(tally: Tally, days: int) -> str:
    span = "day" if days == 1 else f"{days} days"
    remarks = [f"{counted(tally.read, 'row')} of the last {span} read"]
    if days > 1:
        remarks.append("none of the last day")
    if tally.joined:
        remarks.append(f"{tally.joined:,} say again what a row before said and count once")
    if tally.rejected:
        why = ", ".join(f"{reason} {rows:,}" for reason, rows in tally.reasons.most_common())
        remarks.append(f"{tally.rejected:,} would be set aside ({why})")
    return "; ".join(remarks)


def _looked(services: Services, since: dt.datetime) -> Tally:
    """Rows of the source from then on, a sample of them where they are many."""
    from anomaly.sources.database import read_sql

    tally = Tally()
    step, zone = step_seconds(services), services.timezone
    source, until = services.settings.source, services.clock() + AHEAD
    held = checks(services)
    for batch in read_sql(source, since, until, step=step, grid_timezone=zone, checks=held):
        tally.add(batch)
        if tally.read >= SAMPLE_ROWS:
            break
    return tally


def _calendar(services: Services) -> str:
    """The events that ingesting reads beside the rows."""
    settings = services.settings.source
    if settings.calendar_table is None and settings.calendar_query is None:
        return "none in the source; events come by anomaly import --calendar"
    from anomaly.sources.database import read_events

    events = sum(1 for _ in read_events(settings))
    return (
        f"{settings.calendar_table or '[source] calendar_query'}: {counted(events, 'event')} read"
    )


def _clocks(services: Services) -> str:
    """How far the clocks of the databases are from this machine's, by which leases and months end."""
    source = services.settings.source
    remarks = [_skew("the database", services.store.now, services)]
    if source.url is not None:
        from anomaly.sources.database import source_clock

        remarks.append(_skew("the source", lambda: source_clock(source), services))
    return "; ".join(remarks)


def _skew(whose: str, clock: Callable[[], dt.datetime], services: Services) -> str:
    before = services.clock()
    said = clock()
    apart = max(said - services.clock(), before - said)  # whatever asking took is no one's fault
    if apart <= SKEW:
        return f"{whose} and this machine agree"
    way = "ahead of" if said > before else "behind"
    return (
        f"{whose} is {apart.total_seconds():,.0f} seconds {way} this machine, by whose clock leases and "
        "months end. Set both by the same time server"
    )


def _files(path: Path) -> str:
    """What lies there.

    Raises: SourceError if nothing can be read there.
    """
    from anomaly.sources.files import files_of

    files = files_of(path)
    return f"{counted(len(files), 'file')}, {sum(file.stat().st_size for file in files):,} bytes"


def _observations(services: Services) -> str:
    span = services.store.observations.span()
    if span is None and services.settings.source.is_named:
        return "none yet; the first run reads them from the source"
    if span is None:
        raise DataError("the database holds no observations. Import some: anomaly import FILE")
    counts = services.store.rejects.counts()
    bad = ", ".join(f"{reason} {rows:,}" for reason, rows in counts.items())
    users = len(services.store.observations.users())
    metrics = known_metrics(services, span[1] + dt.timedelta(days=1))
    return (
        f"{services.store.observations.count():,} rows, {users} users, {len(metrics)} metrics, "
        f"{span[0]:%Y-%m-%d} to {span[1]:%Y-%m-%d}"
        + (f"; set aside, to look at in the table rejects: {bad}" if bad else "")
    )


def _history(services: Services) -> str:
    span = services.store.observations.span()
    if span is None and services.settings.source.is_named:
        return "not known before the source has been read"
    if span is None:
        raise DataError("there is no history to learn from.")
    first, last = (month_of(when, services.timezone) for when in span)
    if first == last:
        raise DataError(
            f"all rows are of {first}: a month is scored against the months before it. Import "
            "earlier ones."
        )
    there = len(months_between(first, last))
    return (
        f"{counted(there, 'month')}, {first} to {last}; a model learns from up to "
        f"{services.settings.model.history_months}. {first.next()} is the first month that can be run"
    )


def _newest_month(services: Services) -> str:
    """Gaps, and who would be left out, in the month of the newest row; rows that are ahead of the clock."""
    store, zone = services.store.observations, services.timezone
    span = store.span()
    if span is None:
        return "not known before the source has been read"
    month = month_of(span[1], zone)
    last = store.last_seen()
    silent = sum(when < month.start(zone) for when in last.values())
    new = sum(when >= month.start(zone) for when in store.first_seen().values())
    remarks = [
        _gaps(services, month),
        f"{silent} of {len(last)} users without a row in {month} (silent, or left out where that says nothing)",
        f"{new} first seen in it: judged by what others do",
    ]
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
