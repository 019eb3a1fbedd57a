"""The whole story on made data: a company's months, imported, learnt from, scored and judged."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from anomaly.exceptions import SourceError, UsageError
from anomaly.months import Month
from anomaly.settings import Settings, SourceSettings, with_values
from anomaly.simulation import judge, make_world
from anomaly.store import schema
from pipelines.jobs.ingest import ingest_file
from pipelines.jobs.month import run_month
from pipelines.jobs.people import import_calendar, import_users
from pipelines.jobs.scope import closing_time
from pipelines.services import open_database

if TYPE_CHECKING:
    import pandas as pd

    from anomaly.progress import Progress
    from anomaly.simulation import Judgement, World
    from pipelines.jobs.books import Outcome
    from pipelines.services import Services

FIRST_MONTH = "2025-06"  # all of it is over, whatever today is
CONFIG = "anomaly.toml"
LOOKED_AT = dt.timedelta(hours=8)  # after the closing time, when somebody looks at the month
MARK = "# Written by anomaly demo; the folder is replaced by the next one.\n"


@dataclass(frozen=True, slots=True)
class Story:
    """How the demo went. services: as on the morning on which its last month is first looked at."""

    services: Services
    outcome: Outcome
    judgement: Judgement


def run_demo(
    folder: Path,
    users: int,
    months: int,
    settings: Settings,
    progress: Progress,
    open_services: Callable[[Settings], Services],
) -> Story:
    """Make a world in a folder, import it, train, score its last month and judge the flags.

    Args: settings: whose seed, model and threshold are used; database and source are the demo's.
    Raises: UsageError if the folder is somebody else's; SourceError if it cannot be written.
    """
    if months < 2:
        raise UsageError(f"--months {months}: a demo needs 2, one to learn from and one to score.")
    settings = settle(folder, settings)
    with progress.track("making months of behaviour", 0):
        world = make_world(users, months, FIRST_MONTH, settings.model.seed)
        files = write_world(folder, world)
    schema.upgrade(open_database(settings))
    month = Month.parse(FIRST_MONTH).plus(months - 1)
    services = open_services(settings)
    services = as_on(services, closing_time(services, month) + LOOKED_AT)
    ingest_file(services, files["observations"])
    import_users(services, files["users"])
    import_calendar(services, files["events"])
    outcome = run_month(services, month)
    judgement = judge(
        world.incidents,
        outcome.flags,
        month.start(services.timezone),
        month.end(services.timezone),
        outcome.users_scored,
    )
    return Story(services, outcome, judgement)


def as_on(services: Services, when: dt.datetime) -> Services:
    """Services whose clock goes on from then: pages would show made months as long overdue."""
    shift = when - services.clock()
    return replace(services, clock=lambda: services.clock() + shift)


def settle(folder: Path, settings: Settings) -> Settings:
    """Make the folder the demo's own, empty, with a settings file that leads to its database.

    Raises: UsageError if it holds something that no demo has made.
    """
    config = folder / CONFIG
    try:
        if folder.exists() and any(folder.iterdir()):
            if not config.is_file() or not config.read_text().startswith(MARK):
                raise UsageError(
                    f"{folder}: holds files that no demo has made. Name another: --folder DIR"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{folder.resolve() / 'anomaly.db'}"
        config.write_text(f'{MARK}[database]\nurl = "{url}"\n')
    except OSError as error:
        raise SourceError(
            f"{folder}: cannot be written ({error.strerror}). Name another."
        ) from error
    own = settings.model_copy(update={"source": SourceSettings()})
    return with_values(own, "demo", "database", url=url)


def write_world(folder: Path, world: World) -> dict[str, Path]:
    """What a company would hand over, as files; and what nobody knows, beside it."""
    observations = folder / "observations.parquet"
    pq.write_table(world.observations, observations, compression="zstd")
    frames: dict[str, pd.DataFrame] = {
        "users": world.users,
        "events": world.events,
        "incidents": world.incidents,
    }
    files = {"observations": observations}
    for name, frame in frames.items():
        files[name] = folder / f"{name}.csv"
        frame.to_csv(files[name], index=False)
    return files
