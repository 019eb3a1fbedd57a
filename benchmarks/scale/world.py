"""A database, a model and states for made users, so that a month can be scored as in the tenth month."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.grid import make_grid
from anomaly.metrics import MetricSpec
from anomaly.months import Month
from anomaly.panel import Panel
from benchmarks.scale import made

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pipelines.services import Services

HISTORY, MONTH = (Month.parse("2026-01"), Month.parse("2026-02")), Month.parse("2026-03")
KNOWN_USERS = 500  # whose history is made; others have the habits and state of one of these
SEED = 1
SPECS = {name: MetricSpec(name) for name in made.METRICS}


@dataclass(frozen=True, slots=True)
class World:
    """A folder with rows, anomaly.toml, a database and models. attacked: who, from when, until when."""

    folder: Path
    users: int
    attacked: list[tuple[str, dt.datetime, dt.datetime]]

    @property
    def command(self) -> list[str]:
        """The product's command line on this world."""
        return [sys.executable, "-m", "pipelines", "--config", str(self.folder / "anomaly.toml")]

    @property
    def files(self) -> list[Path]:
        """The month's Parquet files."""
        return sorted((self.folder / "rows" / f"month={MONTH}").glob("*.parquet"))


def lay(folder: Path, *, url: str | None, steps: int, workers: int) -> World:
    """Make the history that is learnt from, and the configuration. url: a database that rows are imported
    into, or None for a SQLite file beside Parquet that is read in place.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for month in HISTORY:
        made.write(folder / "rows", KNOWN_USERS, month, SEED, incidents=False)
    source = '[source]\npath = "{folder}/rows"\n' if url is None else ""
    settings = (
        f'[database]\nurl = "{url or "sqlite:///{folder}/anomaly.db"}"\n{source}'
        f'[run]\nartefacts = "{{folder}}/models"\nworkers = {workers}\n[model]\nsteps = {steps}\n'
    )
    (folder / "anomaly.toml.in").write_text(settings)
    (folder / "anomaly.toml").write_text(settings.replace("{folder}", str(folder)))
    return World(folder, KNOWN_USERS, [])


def grown(learnt: World, folder: Path, users: int) -> World:
    """A copy of what was learnt, with the rows of a month of so many users."""
    shutil.copytree(learnt.folder, folder)
    settings = (folder / "anomaly.toml.in").read_text()
    (folder / "anomaly.toml").write_text(settings.replace("{folder}", str(folder)))
    attacked = made.write(folder / "rows", users, MONTH, SEED, incidents=True, known=KNOWN_USERS)
    return World(folder, users, attacked)


def learn(services: Services) -> None:
    """Train on history, let the network serve, also where the trial would rather have its twin, and bring
    users' states up to the month.
    """
    from pipelines.executors.local import Threads  # noqa: PLC0415
    from pipelines.jobs.ingest import ingest_source  # noqa: PLC0415 (TensorFlow comes along)
    from pipelines.jobs.reading import Known, calendar_of, people_before  # noqa: PLC0415
    from pipelines.jobs.states import Memory  # noqa: PLC0415
    from pipelines.jobs.train import load_model, train_and_register  # noqa: PLC0415

    ingest_source(services)
    train_and_register(services, MONTH)
    models = services.store.models
    network = next(row.version for row in models.list() if row.twin is not None)
    model = load_model(services, models.promote(network, services.clock()))
    people = people_before(services, MONTH.start(services.timezone))
    known = Known(people, calendar_of(services))
    Memory.open(services, None, model, MONTH, known).prepare(Threads(1, 1), people.users)


def give_states(services: Services, users: int) -> None:
    """Give everyone beyond the first KNOWN_USERS the state of one of these."""
    states, before = services.store.states, str(MONTH.previous())
    champion = services.store.models.champion()
    if champion is None:
        raise RuntimeError("no model was learnt")
    blobs = states.read(champion.version, before)
    kept = [blobs[user] for user in sorted(blobs)]
    others = [f"user-{number:07d}" for number in range(KNOWN_USERS, users)]
    for first in range(0, len(others), 5_000):
        some = others[first : first + 5_000]
        states.write(
            champion.version, before, some, [kept[place % len(kept)] for place in range(len(some))]
        )


def panel_of(first: int, users: int, months: Sequence[Month], *, incidents: bool = False) -> Panel:
    """The months of so many users from the first on, laid out without any database."""
    grid = make_grid(
        int(months[0].start("UTC").timestamp()),
        int(months[-1].end("UTC").timestamp()),
        made.HOUR,
        "UTC",
    )
    rows = [
        [made.block(number, month, SEED, incidents=incidents) for month in months]
        for number in range(first // made.BLOCK_USERS, -(-(first + users) // made.BLOCK_USERS))
    ]
    values = np.concatenate([np.concatenate([b.values for b in row], axis=1) for row in rows])
    part = slice(first % made.BLOCK_USERS, first % made.BLOCK_USERS + users)
    names = tuple(user for row in rows for user in row[0].users)[part]
    values, begin = values[part].astype(np.float32), np.zeros(users, np.int64)
    known = np.ones(values.shape, bool)
    return Panel(names, made.METRICS, grid, values, known, begin, begin + len(grid))


def attacked_of(users: int) -> NDArray[np.bool_]:
    """Which of the first users are attacked in the month."""
    numbers = range(-(-users // made.BLOCK_USERS))
    odd = [made.block(number, MONTH, SEED, incidents=True).odd.any(1) for number in numbers]
    return np.concatenate(odd)[:users]
