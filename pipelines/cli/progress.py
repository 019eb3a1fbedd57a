"""Progress on a terminal (a bar) and off it (log lines)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from anomaly.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

LINE_SECONDS = 10.0  # off a terminal, a line at most this often
SHORT_SECONDS = 1.0  # work that took less is not worth a line


class Bars:
    """One bar for the stage that is running."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Draw a bar that ends full and stays."""
        from rich import progress

        with progress.Progress(
            progress.TextColumn("{task.description:<28}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=self._console,
        ) as bars:
            task = bars.add_task(label, total=total or None)
            yield lambda done: bars.advance(task, done)


class Lines:
    """A log line from time to time while work goes on, and when it ends if it took long enough to be of
    interest; beginnings and short work are for those who log at debug.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Log the stage's progress."""
        log = structlog.get_logger().bind(work=label, total=total)
        began = told = self._clock()
        done = 0

        def advance(pieces: int) -> None:
            nonlocal done, told
            done += pieces
            if self._clock() - told >= LINE_SECONDS:
                told = self._clock()
                log.info("work_progress", done=done)

        log.debug("work_started")
        yield advance
        seconds = self._clock() - began
        say = log.info if seconds >= SHORT_SECONDS else log.debug
        say("work_finished", done=done, seconds=round(seconds, 2))


def for_console(console: Console) -> Progress:
    """Bars where a person looks on, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines()
