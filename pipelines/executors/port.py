"""The port: carries out the work of shards somewhere, and gives the results in order.

What all adapters hold to, and one contract suite checks:

- results come in the order of the shards, whoever ends first;
- no more shards are begun than the executor has in flight, and none while nobody takes results, so
  memory stays bounded however many shards there are;
- work that raises, or whose process dies, is tried again, `attempts` times in all. Then its shard is
  given up as a `Failure`, and the others go on;
- what is no shard's fault (`FATAL`: the database is away, the lease is lost) ends the whole at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from anomaly.exceptions import AnomalyError, BusyError, SettingsError, SourceError, UsageError

Shard = TypeVar("Shard")
Result = TypeVar("Result")

FATAL = (BusyError, SettingsError, SourceError, UsageError)


@dataclass(frozen=True, slots=True)
class Failure:
    """A shard that was given up. error: what its last attempt raised."""

    attempts: int
    error: Exception

    @property
    def reason(self) -> str:
        """The error in a line, for ledger and log."""
        said = " ".join(str(self.error).split())[:300]
        if isinstance(self.error, AnomalyError):
            return said
        return f"{type(self.error).__name__}: {said}" if said else type(self.error).__name__


class Executor(Protocol):
    """Where the work of shards is done."""

    @property
    def workers(self) -> int:
        """How many shards are worked on at the same time."""
        ...

    def run(
        self, work: Callable[[Shard], Result], shards: Iterable[tuple[int, Shard]]
    ) -> Iterator[tuple[int, Result | Failure]]:
        """Do the work of each shard.

        Closing the iterator leaves what has not begun alone.
        Raises: what is in FATAL, at its shard.
        """
        ...
