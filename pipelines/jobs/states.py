"""What is known of each user when a month begins: read where kept, else rebuilt from history.

A model's memory of a user begins in the month of the user's first row, or in that of the model's
training span, and lives through whole months, each with the shock common to a fixed sample of users
taken off. So a rebuilt state equals the one that month-by-month runs have left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from anomaly.months import Month, month_of, months_between
from pipelines.jobs.reading import (
    Laid,
    Span,
    chunks,
    months_span,
    read_panel,
    sample,
    seen_between,
)

if TYPE_CHECKING:
    import datetime as dt

    from anomaly.calendar import CalendarContext
    from anomaly.engine import Model, Reference, States
    from anomaly.metrics import MetricSpec
    from anomaly.store import Store
    from pipelines.jobs.reading import People
    from pipelines.services import Engine, Services

REFERENCE_USERS = 2_000  # users, chosen by hash, with whom everyone is compared


class Shelf(Protocol):
    """Where packed states are kept, by model, month and user."""

    def read(
        self, model_version: str, month: str, users: Sequence[str] | None = None
    ) -> Mapping[str, bytes]:
        """The states of these users, of those that are kept."""
        ...

    def write(
        self, model_version: str, month: str, users: Sequence[str], blobs: Sequence[bytes]
    ) -> object:
        """Keep the states of these users."""
        ...

    def complete(self, model_version: str, month: str) -> bool:
        """Whether everyone's state of that month is kept."""
        ...

    def seal(self, model_version: str, month: str, now: dt.datetime) -> object:
        """Say that everyone's state of that month is kept."""
        ...


@dataclass(slots=True)
class MemoryShelf:
    """States kept for a dry run alone; what the store holds is read through it."""

    store: Store
    kept: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    sealed: set[tuple[str, str]] = field(default_factory=set)

    def read(
        self, model_version: str, month: str, users: Sequence[str] | None = None
    ) -> Mapping[str, bytes]:
        """The states of these users, of those that are kept."""
        own = self.kept.get((model_version, month), {})
        asked = own if users is None else {user: own[user] for user in users if user in own}
        return {**self.store.states.read(model_version, month, users), **asked}

    def write(
        self, model_version: str, month: str, users: Sequence[str], blobs: Sequence[bytes]
    ) -> None:
        """Keep the states of these users in memory."""
        own = self.kept.setdefault((model_version, month), {})
        own.update(zip(users, blobs, strict=True))

    def complete(self, model_version: str, month: str) -> bool:
        """Whether everyone's state of that month is kept."""
        return (model_version, month) in self.sealed or self.store.states.complete(
            model_version, month
        )

    def seal(self, model_version: str, month: str, now: dt.datetime) -> None:
        """Say that everyone's state of that month is kept."""
        del now
        self.sealed.add((model_version, month))


@dataclass(frozen=True)
class Memory:
    """What one model knows of users when `month` begins."""

    services: Services
    shelf: Shelf
    model: Model
    month: Month
    calendar: CalendarContext
    people: People

    def prepare(self, users: Sequence[str], *, anew: bool = False) -> int:
        """Rebuild everyone's state unless all are kept, or in any case where `anew`. Where all are,
        only those of users whose baseline has begun afresh since.

        Returns: the number of rows read for it.
        """
        before = str(self.month.previous())
        known = [user for user in users if self._known(user)]
        if self.shelf.complete(self.model.version, before) and not anew:
            changed = [user for user in known if user in self._remembered.afresh]
            kept = self.shelf.read(self.model.version, before, changed) if changed else {}
            known = [user for user in changed if user not in kept]
            if not known:
                return 0
        rows = 0
        with self.services.progress.track("learning users", len(known)) as advance:
            for shard in chunks(known, self.services.settings.run.shard_users):
                blobs, read = self._rebuild(shard)
                self.shelf.write(self.model.version, before, shard, [blobs[user] for user in shard])
                rows += read
                advance(len(shard))
        self.shelf.seal(self.model.version, before, self.services.clock())
        return rows

    def of(self, users: Sequence[str]) -> States:
        """The states of these users. Those nobody kept (late rows) are rebuilt; the new are empty."""
        kept = dict(self.shelf.read(self.model.version, str(self.month.previous()), users))
        missing = [user for user in users if user not in kept and self._known(user)]
        if missing:
            kept |= self._rebuild(missing)[0]
        return self._unpack(users, kept)

    def reference(self, span: Span) -> tuple[Reference, Laid]:
        """What happened to everyone in the month, from the same users whichever shard is scored."""
        laid = self._lay(span, self._sample, self.people)
        states = self.of(self._sample)
        return self._engine.reference(self.model, laid.panel, states, self.calendar), laid

    def _known(self, user: str) -> bool:
        """Whether the user has a row before the month."""
        return self.people.first_seen[user] < self.month.start(self.model.timezone).timestamp()

    @cached_property
    def _remembered(self) -> People:
        """As whom users are remembered when the month begins."""
        return self.people.remembered(self.month.start(self.model.timezone))

    def _rebuild(self, users: Sequence[str]) -> tuple[dict[str, bytes], int]:
        """Live through history with these users; also the number of rows it took."""
        blobs: dict[str, bytes] = {}
        rows = 0
        people = self._remembered
        for span, reference in self._history:
            there = _there(people, users, span)
            laid = self._lay(span, there, people)
            states = self._unpack(there, blobs)
            states = self._engine.replay(self.model, laid.panel, states, reference, self.calendar)
            blobs.update(zip(there, states.pack(), strict=True))
            rows += laid.rows
        return blobs, rows

    @cached_property
    def _history(self) -> list[tuple[Span, Reference]]:
        """The months before this one, each with what happened to everyone in it."""
        blobs: dict[str, bytes] = {}
        history = []
        months = months_between(
            month_of(self.model.summary.trained_from, self.model.timezone), self.month.previous()
        )
        with self.services.progress.track("reading the reference", len(months)) as advance:
            for month in months:
                span = months_span(self.services, month, month.next(), self.model.step)
                there = _there(self.people, self._sample, span)
                states = self._unpack(there, blobs)
                panel = self._lay(span, there, self.people).panel
                found = self._engine.reference(self.model, panel, states, self.calendar)
                blobs.update(zip(there, found.states.pack(), strict=True))
                # Replay needs the common shock alone; the sample's states would weigh most.
                history.append((span, replace(found, states=found.states.take([]))))
                advance(1)
        return history

    @cached_property
    def _sample(self) -> tuple[str, ...]:
        """The sample, fixed for the model's life: of users with rows late in its training span."""
        end = self.model.summary.trained_to
        last = month_of(end - 1, self.model.timezone)
        since = last.previous().start(self.model.timezone)
        recent = seen_between(self.services, since, last.end(self.model.timezone))
        return sample(recent, REFERENCE_USERS)

    def _unpack(self, users: Sequence[str], blobs: Mapping[str, bytes]) -> States:
        return self._engine.States.unpack(self.model, users, [blobs.get(user) for user in users])

    def _lay(self, span: Span, users: Sequence[str], people: People) -> Laid:
        return read_panel(self.services, span, people, users, specs_of(self.model))

    @property
    def _engine(self) -> Engine:
        return self.services.engine()


def _there(people: People, users: Sequence[str], span: Span) -> list[str]:
    """Those who had their first row before the span's end."""
    end = span.end.timestamp()
    return [user for user in users if people.first_seen[user] < end]


def specs_of(model: Model) -> dict[str, MetricSpec]:
    """The model's metrics, in its order."""
    return {spec.name: spec for spec in model.specs}
