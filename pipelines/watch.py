"""Watches the runs of this process: shows that they live, and ends what is stuck or cancelled.

A thread that hangs in a driver cannot be ended by itself, so the process is: its runs are written as
failed, with where the stage stood, SIGTERM lets it unwind, and what does not unwind is cut off.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil
import structlog

from anomaly.exceptions import AnomalyError, SourceError
from anomaly.months import parse_duration
from pipelines.exclusive import RENEWALS_PER_LEASE

if TYPE_CHECKING:
    from anomaly.progress import Progress
    from anomaly.settings import RunSettings
    from anomaly.store import Run, Store

TICK_SECONDS = 0.5  # how often stages are looked at
CANCEL_SECONDS = 3.0  # how often a cancellation is looked for
SHOWN_FRAMES = 4  # of the product's own, the innermost last
ROOT = Path(__file__).resolve().parent.parent
POOL = "shard"  # how threads that score are named
PACKAGES = ("anomaly", "pipelines")

# Ends this process after so many seconds at the latest.
End = Callable[[float], None]


@dataclass(slots=True)
class Open:
    """A stage that goes on. thread: who does it; since: on the monotonic clock; memory: the most held."""

    run_id: int
    name: str
    thread: int
    since: float
    memory: int = 0


class Watch(Protocol):
    """What jobs tell of their runs."""

    def run(self, run: Run) -> AbstractContextManager[None]:
        """Watch a run while the context lasts."""
        ...

    def stage(self, run: Run, name: str) -> AbstractContextManager[Open]:
        """Watch a stage; what it gives knows the most memory held meanwhile."""
        ...


class Unwatched:
    """A watch that does not look, for work that nobody waits for."""

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Let the run pass."""
        del run
        yield

    @contextmanager
    def stage(self, run: Run, name: str) -> Iterator[Open]:
        """Let the stage pass."""
        yield Open(run.id, name, threading.get_ident(), time.monotonic(), held())


@dataclass(frozen=True, slots=True)
class Heard:
    """A listener to the progress of work that also lets a watchdog know of it."""

    listener: Progress
    watchdog: Watchdog

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Pass it on."""
        with self.listener.track(label, total) as advance:

            def both(done: int) -> None:
                self.watchdog.got_on()
                advance(done)

            self.watchdog.got_on()
            yield both


class Watchdog:
    """Watches with two threads, one of which never waits for the database."""

    def __init__(
        self,
        store: Store,
        clock: Callable[[], dt.datetime],
        settings: RunSettings,
        end: End | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._limit = parse_duration(settings.stage_limit).total_seconds()
        self._limit_text = settings.stage_limit
        self._grace = parse_duration(settings.stop).total_seconds()
        self._beat = parse_duration(settings.lease).total_seconds() / RENEWALS_PER_LEASE
        self._end = end or end_process
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._stages: dict[int, Open] = {}
        self._numbers = itertools.count()
        self._progress = clock()
        self._idle = threading.Event()
        self._ending = threading.Lock()

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Watch a run; runs within runs, such as training for a month, are watched together."""
        self.got_on()
        with self._lock:
            self._runs.append(run)
            first = len(self._runs) == 1
            if first:
                self._idle = threading.Event()
        if first:
            for work in (self._look, self._live):
                arguments = (self._idle,)
                threading.Thread(target=work, args=arguments, name="watch", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._runs.remove(run)
                if not self._runs:
                    self._idle.set()

    @contextmanager
    def stage(self, run: Run, name: str) -> Iterator[Open]:
        """Watch a stage, which may have several parts at once."""
        number = next(self._numbers)
        opened = Open(run.id, name, threading.get_ident(), time.monotonic(), held())
        with self._lock:
            self._stages[number] = opened
        self.got_on()
        try:
            yield opened
        finally:
            self.got_on()
            with self._lock:
                del self._stages[number]
            opened.memory = max(opened.memory, held())

    def got_on(self) -> None:
        """Note that the work of this process has got on; the next heartbeat says when."""
        self._progress = self._clock()

    def _look(self, idle: threading.Event) -> None:
        """Measure memory, and end the process when a stage takes too long."""
        while not idle.wait(TICK_SECONDS):
            memory, now = held(), time.monotonic()
            with self._lock:
                stages = list(self._stages.values())
            for stage in stages:
                stage.memory = max(stage.memory, memory)
            stuck = [stage for stage in stages if now - stage.since > self._limit]
            if stuck:
                # The one begun last is what the others wait for.
                stage = max(stuck, key=lambda one: one.since)
                where = where_stands(stage.thread)
                self.give_up(
                    f"stage {stage.name} took longer than [run] stage_limit ({self._limit_text}); "
                    f"it stood at {where}",
                    stage.run_id,
                )
                return

    def _live(self, idle: threading.Event) -> None:
        """Say that runs go on, and end the process when one is cancelled."""
        beaten = time.monotonic()
        while not idle.wait(min(CANCEL_SECONDS, self._beat)):
            with self._lock:
                runs = list(self._runs)
            try:
                if time.monotonic() - beaten >= self._beat:
                    beaten = time.monotonic()
                    for run in runs:
                        self._store.ledger.heartbeat(run, self._clock(), self._progress)
                for request in self._store.requests.cancelling([run.id for run in runs]):
                    note = f"cancelled by {request.author}"
                    note += f": {request.reason}" if request.reason else ""
                    self._store.requests.done(request, self._clock(), request.target, "cancelled")
                    self.give_up(note, request.target)
                    return
            except SourceError as error:
                structlog.get_logger().warning("heartbeat_failed", error=str(error))

    def give_up(self, why: str, run_id: int | None) -> None:
        """Write this process's runs as failed and end it. run_id: the run that it is about."""
        if not self._ending.acquire(blocking=False):
            return
        with self._lock:
            runs = list(reversed(self._runs))
        structlog.get_logger().error("run_ended", run_id=run_id, why=why)
        # The database may be what hangs: the end must not wait for it.
        writing = threading.Thread(target=self._write_off, args=(runs, why, run_id), daemon=True)
        writing.start()
        writing.join(self._grace)
        self._end(self._grace)

    def _write_off(self, runs: list[Run], why: str, run_id: int | None) -> None:
        for run in runs:
            note = why if run.id == run_id else f"ended with run {run_id}: {why}"
            try:
                self._store.ledger.finish(run, "failed", self._clock(), note=note)
            except AnomalyError as error:
                structlog.get_logger().warning("failure_not_recorded", error=str(error))


def end_process(grace: float) -> None:
    """Let SIGTERM unwind this process, and cut off what is left after the grace."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(128 + signal.SIGTERM)


def where_stands(thread: int) -> str:
    """Where a thread stands: its innermost call, and the product's own that led there.

    A thread that waits for shards stands where the first of those stands.
    """
    frames = sys._current_frames()  # noqa: SLF001  (documented, for this purpose)
    pool = [it.ident for it in threading.enumerate() if it.name.startswith(POOL)]
    stacks = [traceback.extract_stack(frames[it]) for it in (*pool, thread) if it in frames]
    for stack in stacks:
        own = [call for call in stack if _ours(Path(call.filename))]
        if own:
            shown = [_call(call) for call in own[-SHOWN_FRAMES:]]
            innermost = _call(stack[-1])
            return " > ".join(shown if shown[-1] == innermost else [*shown, innermost])
    return _call(stacks[-1][-1]) if stacks else "a thread that has ended"


def held() -> int:
    """The memory this process holds, bytes."""
    return int(psutil.Process().memory_info().rss)


def _ours(path: Path) -> bool:
    return path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES


def _call(call: traceback.FrameSummary) -> str:
    path = Path(call.filename)
    name = path.relative_to(ROOT) if _ours(path) else path.name
    return f"{name}:{call.lineno} {call.name}"
