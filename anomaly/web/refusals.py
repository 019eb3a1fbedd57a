"""Which refused log-ons get a row in the audit, so that nobody can fill it by trying."""

from __future__ import annotations

import datetime as dt
from threading import Lock

DAY = dt.timedelta(days=1)
NAMED = 100  # actors a day that have rows of their own; the rest have them together
OTHERS = "address:others"


class Refusals:
    """Counts refusals of a day by who was refused; the 1st, 10th, 100th … of each is written.

    Kept in memory: a restart begins anew.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._since = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._lock = Lock()

    def count(self, actor: str, now: dt.datetime) -> tuple[str, int] | None:
        """Count one.

        Returns: under whose name it is written and which of the day it is; None: it is not written.
        """
        with self._lock:
            if now - self._since >= DAY:
                self._counts.clear()
                self._since = now
            name = actor if actor in self._counts or len(self._counts) < NAMED else OTHERS
            number = self._counts[name] = self._counts.get(name, 0) + 1
        return (name, number) if number == 10 ** (len(str(number)) - 1) else None
