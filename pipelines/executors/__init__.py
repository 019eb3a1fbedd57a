"""Where the work of shards is done: on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.executors.local import Threads
from pipelines.executors.port import Executor, Failure
from pipelines.machine import this_machine, workers_for

if TYPE_CHECKING:
    from anomaly.settings import RunSettings

__all__ = ["Executor", "Failure", "open_executor"]


@contextmanager
def open_executor(settings: RunSettings, base: int, each: int) -> Iterator[Executor]:
    """The executor that the settings name.

    Args: base: bytes this process holds whoever works; each: bytes that a shard needs beside.
    """
    yield Threads(workers_for(this_machine(), settings.workers, base, each), settings.attempts)
