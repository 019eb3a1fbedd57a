"""Wires everything once: what jobs need arrives as one argument, chosen here and nowhere else."""

from __future__ import annotations

import datetime as dt
import os
import platform
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.engine import make_url

import anomaly
from anomaly.exceptions import SettingsError
from anomaly.progress import SILENT
from anomaly.settings import Settings, configuration_hash, with_values
from anomaly.store import Store, open_engine
from anomaly.store.artefacts import Artefacts
from pipelines.tracing import traced
from pipelines.trail import Trail
from pipelines.watch import Heard, Unwatched, Watch, Watchdog

if TYPE_CHECKING:
    import sqlalchemy

    from anomaly import engine
    from anomaly.calendar import CalendarContext
    from anomaly.metrics import MetricSpec
    from anomaly.panel import Panel
    from anomaly.peers import Peering
    from anomaly.progress import Progress
    from anomaly.sources.cleaning import Checks
    from anomaly.sources.placed import Placed
    from anomaly.trial import Showing, Trial

Clock = Callable[[], dt.datetime]
AHEAD = dt.timedelta(days=1)  # clocks differ; rows later than this from now cannot have happened
PARQUET_INDEX = "parquet-index"  # beside the models: what is in files that are read in place


class Engine(Protocol):
    """What jobs ask of the core. `anomaly.engine` is one; tests bring a small one."""

    @property
    def Model(self) -> type[engine.Model]:  # noqa: N802  (named as in anomaly.engine)
        """What fitting gives; read back from files."""
        ...

    @property
    def States(self) -> type[engine.States]:  # noqa: N802
        """What is known of users; packed and unpacked."""
        ...

    def fit(
        self,
        history: Panel,
        specs: Mapping[str, MetricSpec],
        calendar: CalendarContext,
        settings: Settings,
        seed: int,
        progress: Progress,
    ) -> engine.Model:
        """Learn from history."""
        ...

    def replay(
        self,
        model: engine.Model,
        panel: Panel,
        states: engine.States,
        reference: engine.Reference,
        calendar: CalendarContext,
    ) -> engine.States:
        """Let states live through a stretch of history."""
        ...

    def reference(
        self,
        model: engine.Model,
        panel: Panel,
        states: engine.States,
        calendar: CalendarContext,
        *,
        peering: Peering = ...,
        lines: bool = ...,
    ) -> engine.Reference:
        """Read what happened to everyone from a sample of users."""
        ...

    def score(
        self,
        model: engine.Model,
        panel: Panel,
        states: engine.States,
        reference: engine.Reference,
        month: str,
        calendar: CalendarContext,
        configuration: str,
        peering: Peering,
    ) -> engine.Scored:
        """Score a month of some users."""
        ...

    def examine(self, model: engine.Model, trial: Trial, calendar: CalendarContext) -> Showing:
        """Put a model to a trial."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """All that a job leans on.

    clock: the time now, aware UTC. sleep: waits so many seconds. holder: names this process in
    leases and in the ledger. watch: what runs and stages are shown to.
    """

    settings: Settings
    store: Store
    artefacts: Artefacts
    engine: Callable[[], Engine]
    progress: Progress
    clock: Clock
    sleep: Callable[[float], None]
    holder: str
    watch: Watch = field(default_factory=Unwatched)

    def __reduce__(self) -> tuple[Callable[..., Services], tuple[object, ...]]:
        """Travel as settings: where they arrive, connections are opened anew and nobody is told of
        progress.
        """
        return _wired, (_anywhere(self.settings), self.engine, self.holder)

    @property
    def configuration(self) -> str:
        """The hash of the settings that shape a result."""
        return configuration_hash(self.settings)

    @property
    def audit(self) -> Trail:
        """Who did what, to what, why."""
        return Trail(self.settings, self.store, self.clock)

    @property
    def code_version(self) -> str:
        """The version of this code, as the ledger keeps it."""
        return anomaly.__version__

    @property
    def timezone(self) -> str:
        """The zone of months and days."""
        return self.settings.grid.timezone


def open_database(settings: Settings) -> sqlalchemy.Engine:
    """The database that the settings name, whatever its schema."""
    return open_engine(settings.database.url, settings.database.password_file)


def open_services(settings: Settings, progress: Progress) -> Services:
    """Open the database and the folder of models that the settings name.

    Raises: SettingsError for what this version cannot serve; SourceError if the database cannot be
        reached; SchemaError if its schema is not this version's.
    """
    refuse_unserved(settings)
    services = _wired(settings, core_engine, holder_name(), progress)
    services.store.check()
    watchdog = Watchdog(services.store, utc_now, settings.run)
    return replace(
        services,
        watch=traced(watchdog, settings, anomaly.__version__),
        progress=Heard(services.progress, watchdog),
    )


def _wired(
    settings: Settings, engine: Callable[[], Engine], holder: str, progress: Progress = SILENT
) -> Services:
    """All services, in this process or in one that works for it elsewhere."""
    store = Store(open_database(settings), settings.database.retries)
    artefacts = artefacts_folder(settings)
    place(settings, store, artefacts, utc_now)
    return Services(
        settings=settings,
        store=store,
        artefacts=Artefacts(artefacts),
        engine=engine,
        progress=progress,
        clock=utc_now,
        sleep=time.sleep,
        holder=holder,
    )


def _anywhere(settings: Settings) -> Settings:
    """The same settings, with paths that do not depend on the working folder."""
    url = make_url(settings.database.url)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).absolute()))
    place = url.render_as_string(hide_password=False)
    values: dict[str, dict[str, Any]] = {
        "database": {"url": place},
        "run": {"artefacts": artefacts_folder(settings).absolute()},
    }
    if settings.source.path is not None:
        values["source"] = {"path": str(Path(settings.source.path).absolute())}
    for section, changed in values.items():
        settings = with_values(settings, "this process's folder", section, **changed)
    return settings


def place(settings: Settings, store: Store, artefacts: Path, clock: Clock) -> Placed | None:
    """Let observations be read where [source] path lies, if they can be; see `Store.place`.

    Names that are to be replaced cannot be left where they are.
    """
    if settings.source.path is None or settings.privacy.pseudonymise:
        return None
    from anomaly.sources.placed import Placed

    placed = Placed(
        Path(settings.source.path),
        artefacts / PARQUET_INDEX,
        lambda: checks_of(settings, clock()),
        settings.source.columns or None,
        settings.source.metric,
    )
    store.place(placed, settings.run.shard_users)
    return placed


def checks_of(settings: Settings, now: dt.datetime) -> Checks:
    """What rows are held against: the zone of naive times, the clock, metrics known as counts."""
    from anomaly.sources.cleaning import Checks

    counts = frozenset(name for name, metric in settings.metric.items() if metric.kind == "count")
    return Checks(settings.source.timezone, int((now + AHEAD).timestamp()), counts)


def refuse_unserved(settings: Settings) -> None:
    """Refuse settings that this version would otherwise pass over in silence.

    Raises: SettingsError naming the setting and what to do instead.
    """
    if settings.privacy.pseudonymise and settings.privacy.key_file is None:
        raise SettingsError(
            "[privacy] pseudonymise needs a key: anomaly key create FILE, then set key_file."
        )


def core_engine() -> Engine:
    """The engine, imported only when work asks for it, so that reading flags stays quick."""
    from anomaly import engine

    return engine


def artefacts_folder(settings: Settings) -> Path:
    """Where models lie: as set, else beside the SQLite file, else ./anomaly-artefacts."""
    if settings.run.artefacts is not None:
        return settings.run.artefacts
    url = make_url(settings.database.url)
    if url.get_backend_name() == "sqlite" and url.database:
        file = Path(url.database)
        return file.with_name(f"{file.stem}-artefacts")
    return Path("anomaly-artefacts")


def utc_now() -> dt.datetime:
    """The time now."""
    return dt.datetime.now(dt.UTC)


def holder_name() -> str:
    """A name for this process that no other process has or will have."""
    return f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
