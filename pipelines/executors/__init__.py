"""Where the work of shards is done: in threads of this process, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from anomaly.exceptions import SettingsError
from pipelines.executors.local import Threads
from pipelines.executors.port import Executor, Failure
from pipelines.machine import this_machine, workers_for

if TYPE_CHECKING:
    from anomaly.settings import Settings

__all__ = ["Executor", "Failure", "open_executor", "refuse_missing"]


def refuse_missing(settings: Settings) -> None:
    """Refuse an engine that is not installed, before any work is done for it.

    Raises: SettingsError with what to install.
    """
    if settings.run.engine == "ray":
        from pipelines.executors import cluster

        cluster.refuse_missing()


@contextmanager
def open_executor(
    settings: Settings, base: int, each: int, *, here: bool = False
) -> Iterator[Executor]:
    """The executor that the settings name.

    Args: base: bytes this process holds whoever works; each: bytes that a shard needs beside. here:
        on this machine whatever the settings say, for work that leans on what this process holds.
    Raises: SettingsError if there is no such cluster, or it cannot read the database.
    """
    run, machine = settings.run, this_machine()
    if run.engine == "local" or here:
        yield Threads(workers_for(machine, run.workers, base, each), run.attempts)
        return
    from pipelines.executors import cluster

    cores = workers_for(machine, run.workers, base, base + each)
    with cluster.connected(run.ray_address, run.workers, run.attempts, cores) as tasks:
        file = make_url(settings.database.url).get_backend_name() == "sqlite"
        if file and cluster.machines() > 1:
            raise SettingsError(
                "[database] url: a SQLite file can be read on its own machine alone, and the Ray "
                "cluster has several. Use PostgreSQL: postgresql://USER@HOST/NAME"
            )
        yield tasks
