"""SIGTERM unwinds the work: leases are given back, files on disk removed, an open run noted as stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_CODE = 128 + signal.SIGTERM  # what shells expect


class Stopped(BaseException):
    """SIGTERM came. No `except Exception` takes it for a failure of the work."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise Stopped in the main thread, once; what it did before comes back after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(*_: object) -> None:
    # A second one must not interrupt the unwinding of the first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped
