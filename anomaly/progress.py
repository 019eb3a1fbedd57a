"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """A listener to the progress of long work."""

    def track(self, label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Announce `total` pieces of work under this label.

        Returns: a context that gives a function to call with the number of pieces just done.
            A total of 0 means that nobody knows how many there will be.
        """
        ...


class Silent:
    """A listener that tells nobody."""

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Take the announcements and say nothing."""
        del label, total
        yield lambda _: None


SILENT = Silent()
