"""Looks at everything a first run leans on, and says what is wrong before it is relied on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.exceptions import AnomalyError, DataError
from anomaly.months import month_of
from anomaly.telemetry.logs import without_password
from pipelines.jobs.reading import step_seconds
from pipelines.jobs.train import known_metrics

if TYPE_CHECKING:
    from anomaly.settings import Settings, SourceSettings
    from pipelines.services import Services


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. error: what is wrong with it, or None."""

    what: str
    remark: str
    error: AnomalyError | None = None


def run_checks(settings: Settings, open_services: Callable[[], Services]) -> list[Check]:
    """Settings (read already), database, artefacts, source, data; the later need the earlier."""
    checks = [Check("settings", "read and understood")]
    try:
        services = open_services()
    except AnomalyError as error:
        return [*checks, Check("database", str(error), error)]
    checks.append(Check("database", without_password(settings.database.url)))
    for what, look in (
        ("models", _models),
        ("source", _source),
        ("observations", _observations),
        ("history", _history),
    ):
        try:
            checks.append(Check(what, look(services)))
        except AnomalyError as error:
            checks.append(Check(what, str(error), error))
    return checks


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
        return (
            "none configured: rows come by anomaly import"
            if settings.path is None
            else settings.path
        )
    from anomaly.sources.database import read_sql

    since = services.clock() - dt.timedelta(days=1)
    batch = next(iter(read_sql(settings, since, services.clock())), None)
    rows = 0 if batch is None else batch.read
    return f"{without_password(settings.url)}: {rows} rows of the last day read"


def _reads_rows(source: SourceSettings) -> bool:
    """Whether a run copies rows from a source."""
    return source.url is not None or source.reader is not None


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
