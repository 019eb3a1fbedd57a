"""How fast this machine is now: a month's own work, timed on a few of its users. Nothing is written.

Each kind of work is timed with few users and with more, which tells what it takes anyway from what
each user adds. Training is tried with few gradient steps: whoever is learnt from, a step takes as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from anomaly.networks.training import EVALUATE_EVERY
from anomaly.panel import evenly
from anomaly.progress import SILENT
from anomaly.settings import with_values
from anomaly.thresholds.choice import FEW_USERS
from anomaly.trial import TWIN
from pipelines.jobs.reading import known_of, months_span, read_panel
from pipelines.jobs.scoring import Scoring
from pipelines.jobs.states import MemoryShelf, Past, specs_of, without_states
from pipelines.jobs.train import hold_contest, load_model, twin_settings

if TYPE_CHECKING:
    from anomaly.engine import Model, Reference, States
    from anomaly.months import Month
    from anomaly.panel import Panel
    from anomaly.settings import Settings
    from anomaly.store import ModelRow
    from pipelines.jobs.reading import Span
    from pipelines.jobs.scope import Scope
    from pipelines.jobs.train import Contest
    from pipelines.services import Services

FEW, MORE = FEW_USERS, 3 * FEW_USERS  # users that work is timed on; fewer are judged in another way
LEAST_SHARE = 0.25  # of the time per user with MORE users: what each user adds is not less
TRAINING = "training"  # how the core calls gradient steps to a listener
Work = Callable[[Sequence[str]], object]
Clocked = Callable[[Work, Sequence[str]], float]


@dataclass(frozen=True, slots=True)
class Law:
    """Seconds of work: what it takes anyway, and what each user adds."""

    anyway: float
    each: float

    def of(self, users: float) -> float:
        """Seconds for so many users."""
        return self.anyway + users * self.each


@dataclass(frozen=True, slots=True)
class Speed:
    """What parts of a month take. reference, replay: one month; fit: all of training, by users learnt
    from; None where nothing is trained.
    """

    reference: Law
    replay: Law
    score: Law
    fit: Law | None


def seconds_of(work: Work, users: Sequence[str]) -> float:
    """Seconds on the clock for work on these users."""
    began = time.perf_counter()
    work(users)
    return time.perf_counter() - began


def timed(
    work: Work, users: Sequence[str], *, once: bool = False, seconds: Clocked = seconds_of
) -> Law:
    """Time work with few and with more of these users.

    Args: once: the work sets nothing up that a second call finds there; else it is called before.
    """
    few = [users[place] for place in evenly(len(users), FEW)]
    first = 0.0 if once else seconds(work, few)
    again = seconds(work, few)
    if len(users) == len(few):
        return Law(max(0.0, first - again), again / len(few))
    whole = seconds(work, users)
    each = max((whole - again) / (len(users) - len(few)), LEAST_SHARE * whole / len(users))
    return Law(max(0.0, max(first, again) - len(few) * each), each)


def measure(services: Services, scope: Scope, champion: ModelRow | None, *, fits: bool) -> Speed:
    """Time the month's work on a few of its users.

    Args: champion: whose model scores, unless none does yet. fits: whether training is timed too.
    Raises: what the run would raise, such as DataError without history.
    """
    fit = model = None
    quiet = replace(services, progress=SILENT)
    with services.progress.track("timing the work on a few users", 2) as advance:
        if fits:
            fit, model = time_training(quiet, scope)
        if champion is not None:
            model = load_model(services, champion)
        if model is None:  # how long training takes is known, and no model serves yet
            model = _contest(quiet, twin_settings(services.settings), scope.month, FEW).serves
        advance(1)
        month = time_month(quiet, scope, model)
        advance(1)
    return replace(month, fit=fit)


def time_month(services: Services, scope: Scope, model: Model) -> Speed:
    """Time reading and scoring, and a month of history; the users are taken for new ones."""
    users = [scope.users[place] for place in evenly(len(scope.users), MORE)]
    known = known_of(services, scope.people)
    engine, specs, before = services.engine(), specs_of(model), scope.month.previous()
    history = months_span(services, before, scope.month, model.step)

    def new(some: Sequence[str]) -> States:
        return engine.States.unpack(model, some, [None] * len(some))

    def panel(span: Span, some: Sequence[str]) -> Panel:
        return read_panel(services, span, scope.people, some, specs, known.calendar).panel

    def refer(some: Sequence[str], span: Span = scope.span) -> Reference:
        return engine.reference(model, panel(span, some), new(some), known.calendar)

    reference, usual = refer(users), refer(users, history)
    shelf = MemoryShelf(services.store)
    shelf.write(model.version, str(before), users, new(users).pack())
    scoring = Scoring(
        services, scope.month, scope.span, Past(services, model, scope.month, known.of(())), shelf,
        without_states(reference), closed=True,
    )  # fmt: skip

    def replay(some: Sequence[str]) -> object:
        return engine.replay(model, panel(history, some), new(some), usual, known.calendar)

    return Speed(
        timed(refer, users, once=True),
        timed(replay, users, once=True),
        timed(lambda some: scoring(known.of(some)), users),
        None,
    )


def time_training(services: Services, scope: Scope) -> tuple[Law, Model]:
    """Time training with few users and steps, and its twin with few and with more users."""
    settings, month, users = services.settings, scope.month, scope.users[:MORE]
    twin = twin_settings(settings)
    alone = timed(lambda some: _contest(services, twin, month, len(some)), users, once=True)
    if settings.model.cell == TWIN:
        return alone, _contest(services, twin, month, FEW).serves
    steps = min(settings.model.steps, 2 * EVALUATE_EVERY)
    tried = with_values(settings, "a trial of this machine", "model", steps=steps)
    watch = Stopwatch()
    began = time.perf_counter()
    contest = _contest(replace(services, progress=watch), tried, month, FEW)
    taken = time.perf_counter() - began
    # Twice: beside the network its twin is fitted and tried.
    each = 2 * alone.each
    more_steps = (settings.model.steps - steps) * watch.step_seconds
    return Law(max(0.0, taken + more_steps - FEW * each), each), contest.models[0]


def _contest(services: Services, settings: Settings, month: Month, users: int) -> Contest:
    """A training on so few users; nothing of it is kept."""
    few = with_values(settings, "a trial of this machine", "model", sample_users=users)
    return hold_contest(replace(services, settings=few), month)


@dataclass(slots=True)
class Stopwatch:
    """A listener that notes when each gradient step ended."""

    ends: list[float] = field(default_factory=list)

    @contextmanager
    def track(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """Note the time of each piece of training."""
        del total
        yield self._note if label == TRAINING else lambda _: None

    def _note(self, done: int) -> None:
        if done == 1:
            self.ends.append(time.perf_counter())

    @property
    def step_seconds(self) -> float:
        """Seconds a gradient step takes, with its share of the looks at later history."""
        steady = self.ends[EVALUATE_EVERY - 1 :] if len(self.ends) > EVALUATE_EVERY else self.ends
        return (steady[-1] - steady[0]) / (len(steady) - 1) if len(steady) > 1 else 0.0
