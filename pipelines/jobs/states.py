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

import structlog

from anomaly.months import Month, month_of, months_between
from pipelines.executors import Failure
from pipelines.jobs.reading import (
    Known,
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

    from anomaly.engine import Model, Reference, States
    from anomaly.metrics import MetricSpec
    from anomaly.store import Store
    from pipelines.executors import Executor
    from pipelines.jobs.reading import People
    from pipelines.services import Services

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
class Past:
    """What happened to everyone before `month`, from a fixed sample of users. Read when asked for.

    Months before the first of the sample's rows that are kept are left out.
    """

    services: Services
    model: Model
    month: Month
    sample: Known

    @cached_property
    def months(self) -> list[tuple[Span, Reference]]:
        """The months before this one, each with what happened to everyone in it."""
        engine, users = self.services.engine(), self.sample.people.users
        blobs: dict[str, bytes] = {}
        past = []
        months = months_between(
            month_of(self.model.summary.trained_from, self.model.timezone), self.month.previous()
        )
        with self.services.progress.track("reading the reference", len(months)) as advance:
            for month in months:
                span = months_span(self.services, month, month.next(), self.model.step)
                if there := there_by(self.sample.people, users, span):
                    states = unpacked(self.services, self.model, there, blobs)
                    days = self.sample.days_of(states)
                    laid = read_panel(
                        self.services, span, self.sample.people, there, specs_of(self.model), days
                    )
                    found = engine.reference(self.model, laid.panel, states, days)
                    blobs.update(zip(there, found.states.pack(), strict=True))
                    past.append((span, without_states(found)))
                advance(1)
        return past


@dataclass(frozen=True)
class Memory:
    """What one model knows of users when `month` begins.

    shelf: where states are kept; None: in the store. known: the users it may be asked about.
    """

    services: Services
    shelf: MemoryShelf | None
    model: Model
    month: Month
    past: Past
    known: Known

    @classmethod
    def open(
        cls, services: Services, shelf: MemoryShelf | None, model: Model, month: Month, known: Known
    ) -> Memory:
        """The memory of these users, with a sample fixed for the model's life: of users with rows
        late in its training span, or of all these users once such rows are no longer kept.
        """
        last = month_of(model.summary.trained_to - 1, model.timezone)
        since = last.previous().start(model.timezone)
        recent = seen_between(services, since, last.end(model.timezone)) or known.people.users
        users = known.of(sample(recent, REFERENCE_USERS))
        return cls(services, shelf, model, month, Past(services, model, month, users), known)

    def prepare(self, executor: Executor, users: Sequence[str], *, anew: bool = False) -> int:
        """Rebuild everyone's state unless all are kept, or in any case where `anew`. Where all are,
        only those that are no longer true: of users whose baseline has begun afresh, or who had late
        rows.

        Returns: the number of rows read for it.
        """
        before = str(self.month.previous())
        if self._shelf.complete(self.model.version, before) and not anew:
            afresh = self.known.people.remembered(self.month.start(self.model.timezone)).afresh
            late = self.services.store.late.ever(before)
            return self.renew(executor, [user for user in users if user in late or user in afresh])
        rows, whole = self._learn(executor, [user for user in users if self._familiar(user)])
        if whole:
            self._shelf.seal(self.model.version, before, self.services.clock())
        return rows

    def renew(self, executor: Executor, users: Sequence[str]) -> int:
        """Rebuild the states of those of these users of whom none is kept; gives the rows read for it."""
        kept = self._shelf.read(self.model.version, str(self.month.previous()), users)
        lost = [user for user in users if user not in kept and self._familiar(user)]
        return self._learn(executor, lost)[0] if lost else 0

    def _learn(self, executor: Executor, users: Sequence[str]) -> tuple[int, bool]:
        """Rebuild states from history.

        A shard that cannot be rebuilt is left out: scoring tries it again and says who is at fault.
        Returns: the rows read for it, and whether no shard was left out.
        """
        before = str(self.month.previous())
        shards = chunks(users, self.services.settings.run.shard_users)
        learning = Learning(self.services, self.past)
        parts = ((number, self.known.of(shard)) for number, shard in enumerate(shards))
        rows, whole = 0, True
        # Months are read here, once, before they travel with the work.
        label = f"learning users, {len(self.past.months)} months"
        with self.services.progress.track(label, len(users)) as advance:
            for number, outcome in executor.run(learning, parts):
                if isinstance(outcome, Failure):
                    structlog.get_logger().warning(
                        "shard_not_learnt", shard=number, error=outcome.reason
                    )
                    whole = False
                else:
                    blobs, read = outcome
                    packed = [blobs[user] for user in shards[number]]
                    self._shelf.write(self.model.version, before, shards[number], packed)
                    rows += read
                advance(len(shards[number]))
        return rows, whole

    def of(self, users: Sequence[str]) -> States:
        """The states of these users. Those nobody kept (late rows) are rebuilt; the new are empty."""
        kept = dict(self._shelf.read(self.model.version, str(self.month.previous()), users))
        missing = [user for user in users if user not in kept and self._familiar(user)]
        if missing:
            kept |= lived_through(self.services, self.past, self.known, missing)[0]
        return unpacked(self.services, self.model, users, kept)

    def reference(self, span: Span) -> tuple[Reference, Laid]:
        """What happened to everyone in the month, from the same users whichever shard is scored."""
        sample = self.past.sample
        users = sample.people.users
        states = replace(self, known=sample).of(users)
        days = sample.days_of(states)
        laid = read_panel(self.services, span, sample.people, users, specs_of(self.model), days)
        engine = self.services.engine()
        found = engine.reference(
            self.model, laid.panel, states, days, peering=sample.peering, lines=True
        )
        return found, laid

    def _familiar(self, user: str) -> bool:
        """Whether the user has a row before the month."""
        first = self.known.people.first_seen[user]
        return first < self.month.start(self.model.timezone).timestamp()

    @property
    def _shelf(self) -> Shelf:
        return self.services.store.states if self.shelf is None else self.shelf


@dataclass(frozen=True)
class Learning:
    """Lives through history with the users of a shard, anywhere; nothing is written."""

    services: Services
    past: Past

    def __call__(self, known: Known) -> tuple[dict[str, bytes], int]:
        """Their packed states, and the number of rows it took."""
        return lived_through(self.services, self.past, known, known.people.users)


def lived_through(
    services: Services, past: Past, known: Known, users: Sequence[str]
) -> tuple[dict[str, bytes], int]:
    """What the model knows of these users after the past, packed; and the rows it took."""
    model, engine = past.model, services.engine()
    people = known.people.remembered(past.month.start(model.timezone))
    blobs: dict[str, bytes] = {}
    rows = 0
    for span, reference in past.months:
        there = there_by(people, users, span)
        if not there:
            continue
        states = unpacked(services, model, there, blobs)
        days = known.days_of(states)
        laid = read_panel(services, span, people, there, specs_of(model), days)
        states = engine.replay(model, laid.panel, states, reference, days)
        blobs.update(zip(there, states.pack(), strict=True))
        rows += laid.rows
    return blobs, rows


def unpacked(
    services: Services, model: Model, users: Sequence[str], blobs: Mapping[str, bytes]
) -> States:
    """The states of these users; one without a record starts empty."""
    return services.engine().States.unpack(model, users, [blobs.get(user) for user in users])


def there_by(people: People, users: Sequence[str], span: Span) -> list[str]:
    """Those who had their first row before the span's end."""
    end = span.end.timestamp()
    return [user for user in users if people.first_seen[user] < end]


def without_states(reference: Reference) -> Reference:
    """The reference for those who are compared with it: the sample's states would weigh most."""
    return replace(reference, states=reference.states.take([]))


def specs_of(model: Model) -> dict[str, MetricSpec]:
    """The model's metrics, in its order."""
    return {spec.name: spec for spec in model.specs}
