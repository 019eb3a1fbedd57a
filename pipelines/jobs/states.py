"""What is known of each user when a month begins: read where kept, else rebuilt from history.

A model's memory of a user starts with the month its training span starts with and grows month by
month, so a rebuilt state equals the one that month-by-month runs have left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from anomaly.months import Month, month_of, months_between
from pipelines.jobs.reading import chunks, months_span, read_panel

if TYPE_CHECKING:
    import datetime as dt

    from anomaly.calendar import CalendarContext
    from anomaly.engine import Model, States
    from anomaly.metrics import MetricSpec
    from anomaly.store import Store
    from pipelines.jobs.reading import People
    from pipelines.services import Engine, Services


class Shelf(Protocol):
    """Where packed states are kept, by model, month and user."""

    def read(
        self, model_version: str, month: str, users: Sequence[str] | None = None
    ) -> Mapping[str, bytes]: ...
    def write(
        self, model_version: str, month: str, users: Sequence[str], blobs: Sequence[bytes]
    ) -> object: ...
    def complete(self, model_version: str, month: str) -> bool: ...
    def seal(self, model_version: str, month: str, now: dt.datetime) -> object: ...


@dataclass(slots=True)
class MemoryShelf:
    """States kept for a dry run alone; what the store holds can be read through it."""

    store: Store
    kept: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    sealed: set[tuple[str, str]] = field(default_factory=set)

    def read(
        self, model_version: str, month: str, users: Sequence[str] | None = None
    ) -> Mapping[str, bytes]:
        """The states of these users."""
        found = dict(self.store.states.read(model_version, month, users))
        return found | {
            user: blob
            for (version, when, user), blob in self.kept.items()
            if (version, when) == (model_version, month) and (users is None or user in users)
        }

    def write(
        self, model_version: str, month: str, users: Sequence[str], blobs: Sequence[bytes]
    ) -> None:
        """Keep them in memory."""
        for user, blob in zip(users, blobs, strict=True):
            self.kept[model_version, month, user] = blob

    def complete(self, model_version: str, month: str) -> bool:
        """Whether everyone's state of that month is kept."""
        return (model_version, month) in self.sealed or self.store.states.complete(
            model_version, month
        )

    def seal(self, model_version: str, month: str, now: dt.datetime) -> None:
        """Say that everyone's state of that month is kept."""
        del now
        self.sealed.add((model_version, month))


@dataclass(frozen=True, slots=True)
class Memory:
    """What one model knows of users when `month` begins."""

    services: Services
    shelf: Shelf
    model: Model
    month: Month
    calendar: CalendarContext
    people: People

    def prepare(self, users: Sequence[str]) -> int:
        """Rebuild everyone's state unless all are kept.

        Returns: the number of rows read for it.
        """
        before = str(self.month.previous())
        if self.shelf.complete(self.model.version, before):
            return 0
        shards = chunks(users, self.services.settings.run.shard_users)
        rows = 0
        with self.services.progress.track("learning users", len(users)) as advance:
            for shard in shards:
                states, read = self._rebuild(shard)
                self.shelf.write(self.model.version, before, shard, states.pack())
                rows += read
                advance(len(shard))
        self.shelf.seal(self.model.version, before, self.services.clock())
        return rows

    def of(self, users: Sequence[str]) -> States:
        """The states of these users; those nobody kept (late rows, new users) are rebuilt."""
        kept = dict(self.shelf.read(self.model.version, str(self.month.previous()), users))
        missing = [user for user in users if user not in kept]
        if missing:
            states, _ = self._rebuild(missing)
            kept.update(zip(missing, states.pack(), strict=True))
        return self._engine.States.unpack(self.model, users, [kept[user] for user in users])

    def _rebuild(self, users: Sequence[str]) -> tuple[States, int]:
        states = self._engine.States.empty(self.model, users)
        rows = 0
        for month in self._span():
            span = months_span(self.services, month, month.next(), self.model.step)
            laid = read_panel(self.services, span, self.people, users, specs_of(self.model))
            states = self._engine.replay(self.model, laid.panel, states, self.calendar)
            rows += laid.rows
        return states, rows

    def _span(self) -> list[Month]:
        first = month_of(self.model.trained_from, self.model.timezone)
        return months_between(first, self.month.previous())

    @property
    def _engine(self) -> Engine:
        return self.services.engine()


def specs_of(model: Model) -> dict[str, MetricSpec]:
    """The model's metrics, in its order."""
    return {name: model.specs[name] for name in model.metrics}
