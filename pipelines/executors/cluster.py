"""Shards as tasks of a Ray cluster: Ray places them, tries them again and moves results.

The driver plans, takes results in order and publishes; workers read and compute. The work travels
once to each node, a shard with each task. At most IN_FLIGHT tasks for each core are begun and not
taken, so that neither the driver nor the nodes' object stores fill up.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import anomaly
from anomaly.exceptions import SettingsError, SourceError
from pipelines.executors.port import FATAL, Failure, Result, Shard
from pipelines.machine import one_thread_each

if TYPE_CHECKING:
    import ray

IN_FLIGHT = 2  # tasks for each core: one that runs and one that waits beside it
HERE = "local"  # Ray's word for a cluster that is started with the run and ends with it
# Nothing is sent to Ray's makers, and no dashboard is needed: a run has its own ledger and metrics.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


@dataclass(frozen=True, slots=True)
class Fatal:
    """An error that is no shard's fault, brought home as a value so that Ray does not try again."""

    error: Exception


class Tasks:
    """A cluster to which this process is connected. workers: at most so many; 0: all its cores."""

    def __init__(self, workers: int, attempts: int) -> None:
        self._asked = workers
        self._attempts = attempts

    @property
    def workers(self) -> int:
        """How many shards are worked on at the same time; a cluster may grow while it works."""
        cores = int(_ray().cluster_resources().get("CPU", 0))
        return min(self._asked, cores) if self._asked else max(cores, 1)

    def run(
        self, work: Callable[[Shard], Result], shards: Iterable[tuple[int, Shard]]
    ) -> Iterator[tuple[int, Result | Failure]]:
        """See `Executor.run`."""
        there = _ray().put(work)
        task = _ray().remote(_carried_out).options(
            num_cpus=1, max_retries=self._attempts - 1, retry_exceptions=True, name="shard"
        )  # fmt: skip
        waiting = iter(shards)
        going: deque[tuple[int, ray.ObjectRef[Any]]] = deque()
        try:
            while True:
                # A box, for Ray would unpack a bare reference anew for every task.
                for number, shard in islice(waiting, max(self._room() - len(going), 0)):
                    going.append((number, task.remote(anomaly.__version__, [there], shard)))
                if not going:
                    return
                number, result = going.popleft()
                yield number, self._taken(result)
        finally:
            for _, result in going:
                _ray().cancel(result)

    def _room(self) -> int:
        """How many tasks may be begun and not taken. One that waits beside each would exceed what
        was asked for.
        """
        return self.workers if self._asked else IN_FLIGHT * self.workers

    def _taken(self, result: ray.ObjectRef[Any]) -> Any:
        errors = _ray().exceptions
        try:
            done = _ray().get(result)
        except errors.RayTaskError as error:  # the work raised
            cause = error.cause
            return Failure(self._attempts, cause if isinstance(cause, Exception) else error)
        except errors.RaySystemError as error:
            raise SourceError(f"the Ray cluster failed: {_line(error)}. Run again.") from error
        except errors.RayError as error:  # its process died, or the node that held the result
            return Failure(self._attempts, error)
        if isinstance(done, Fatal):
            raise done.error
        return done


@contextmanager
def connected(address: str | None, workers: int, attempts: int, cores: int) -> Iterator[Tasks]:
    """Connect to the cluster at `address`, else to that of RAY_ADDRESS (which `ray job submit` sets),
    else start one of `cores` on this machine for as long as this lasts.

    Raises: SettingsError if Ray is not installed or the cluster does not answer.
    """
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    place = address or os.environ.get("RAY_ADDRESS") or HERE
    own = {"num_cpus": cores, "include_dashboard": False} if place == HERE else {}
    try:
        _join(place, own)
        yield Tasks(workers, attempts)
    finally:  # also of a cluster that did not answer: Ray would go on asking it
        _ray().shutdown()


def _join(place: str, own: dict[str, Any]) -> None:
    try:
        _ray().init(place, log_to_driver=False, logging_level="warning", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SettingsError(
            f"[run] ray_address: no Ray cluster answers at {place!r} ({_line(error)}). Start one "
            "(ray start --head), name it, or leave it out to use this machine alone."
        ) from error


def refuse_missing() -> None:
    """Raises: SettingsError if Ray is not installed."""
    _ray()


def machines() -> int:
    """How many machines the cluster has; several of its nodes may be on one."""
    return len({node["NodeManagerAddress"] for node in _ray().nodes() if node["Alive"]})


def _carried_out(version: str, box: list[ray.ObjectRef[Any]], shard: Any) -> Any:
    """Runs on a node."""
    if version != anomaly.__version__:
        return Fatal(
            SettingsError(
                f"a worker of the Ray cluster has anomaly {anomaly.__version__}, the driver has "
                f"{version}. Give all nodes the same image."
            )
        )
    try:
        with one_thread_each(1):
            return _arrived(box[0])(shard)
    except FATAL as error:
        return Fatal(error)


@lru_cache(maxsize=1)
def _arrived(there: ray.ObjectRef[Any]) -> Callable[[Any], Any]:
    """The work, unpacked once in each worker's process, with its connections and its model."""
    return _ray().get(there)  # type: ignore[no-any-return]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _ray() -> Any:
    """Ray, imported when it is asked for."""
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            '[run] engine = "ray": Ray is not installed. Run: pip install "anomaly[ray]", or set '
            'engine = "local".'
        ) from error
    return ray
