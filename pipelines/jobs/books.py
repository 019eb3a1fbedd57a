"""Where a month's run is written: in the ledger, or, for a dry run, in memory alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from anomaly.difference import changes, summary
from anomaly.exceptions import AnomalyError
from pipelines.jobs.reading import months_span, steps_over
from pipelines.jobs.scope import closing_time, is_closed

if TYPE_CHECKING:
    from anomaly.records import Band, Flag, UserMonth
    from anomaly.store import Run, Token
    from pipelines.exclusive import Holding
    from pipelines.jobs.scope import Scope
    from pipelines.services import Services


MONTH_JOB = "month"
PLAN_STAGE = "plan"  # its figures tell whether rows have changed since an interruption


@dataclass(slots=True)
class Counts:
    """What a stage went through; its body fills this in. skipped: rows or users, by reason."""

    rows: int = 0
    users: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What is published of one shard.

    states: packed, by user; empty while provisional. bands: by flag_id, what its plot shows.
    """

    flags: Sequence[Flag]
    user_months: Sequence[UserMonth]
    states: Mapping[str, bytes] = field(default_factory=dict)
    bands: Mapping[str, Band] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a month's run came to.

    state: complete, provisional or dry. flags: the highest score first. note: what a reader should
    know of it, or None.
    """

    month: str
    state: str
    flags: Sequence[Flag]
    users_scored: int
    users_skipped: Mapping[str, int]
    model_version: str | None
    note: str | None = None


class Passage(Protocol):
    """What a stage went through elsewhere. seconds: it took; memory: the most bytes held there."""

    @property
    def result(self) -> ShardResult: ...  # noqa: D102  (as above)
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def memory(self) -> int: ...  # noqa: D102


class Books(Protocol):
    """What a month's run writes down."""

    def stage(self, name: str) -> AbstractContextManager[Counts]:
        """Time a stage and keep its figures."""
        ...

    def waiting(self, stage: str) -> AbstractContextManager[object]:
        """Watch a stage that goes on elsewhere while its next figures are waited for."""
        ...

    def record(self, stage: str, passed: Passage) -> None:
        """Keep the figures of a stage that passed elsewhere."""
        ...

    def finished_shards(self) -> set[int]:
        """Shards that an interrupted attempt at this run has published."""
        ...

    def take_over(self, scope: Scope, model_version: str, finished: set[int]) -> set[int]:
        """Shards of an earlier run that had to set users aside, now this run's; none of `finished`."""
        ...

    def publish(
        self, shard: int, model_version: str, result: ShardResult, error: str | None = None
    ) -> None:
        """Write one shard in one transaction. error: why some of its users were not scored."""
        ...

    def finish(
        self, state: str, model_version: str, scope: Scope, rejected: Mapping[str, int]
    ) -> Outcome:
        """End the run."""
        ...


class Ledger:
    """A run in the ledger, written under the lease's token."""

    def __init__(self, services: Services, run: Run, holding: Holding) -> None:
        self._services = services
        self._run = run
        self._holding = holding

    @property
    def token(self) -> Token:
        """Proof of the lease under which the run is written."""
        return self._holding.token

    @contextmanager
    def stage(self, name: str) -> Iterator[Counts]:
        """Time a stage and write its figures."""
        self._holding.check()
        with staged(self._services, self._run, name) as counts:
            yield counts

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """Watch the stage, in the ledger from now on."""
        self._services.store.ledger.begin_stage(self._run, stage, self._services.clock())
        with (
            structlog.contextvars.bound_contextvars(run_id=self._run.id, stage=stage),
            self._services.watch.stage(self._run, stage),
        ):
            yield

    def record(self, stage: str, passed: Passage) -> None:
        """Add the figures to the stage's."""
        self._holding.check()
        people = passed.result.user_months
        self._services.store.ledger.stage(
            self._run,
            stage,
            passed.seconds,
            rows=passed.rows,
            users=len(people),
            memory=passed.memory,
            skipped=Counter(person.skipped for person in people if person.skipped is not None),
            now=self._services.clock(),
        )

    def finished_shards(self) -> set[int]:
        """Shards that an interrupted attempt at this run has published."""
        return self._services.store.shards.finished(self._run.id)

    def take_over(self, scope: Scope, model_version: str, finished: set[int]) -> set[int]:
        """Copy what the run that stands has scored, where this one would score the same."""
        services, shards = self._services, self._services.store.shards
        standing = services.store.ledger.current(str(self._run.month))
        if standing is None or standing.id == self._run.id or not shards.set_aside(standing.id):
            return set()
        told = (standing.configuration, standing.code_version, standing.model_version)
        same = told == (services.configuration, services.code_version, model_version)
        if not same or not covers_the_same(services, standing, scope):
            return set()
        numbers = shards.finished(standing.id) - finished
        shards.adopt(self._run, standing.id, numbers, self._holding.token, services.clock())
        return numbers

    def publish(
        self, shard: int, model_version: str, result: ShardResult, error: str | None = None
    ) -> None:
        """Write one shard in one transaction."""
        self._services.store.publish(
            self._run,
            shard,
            str(self._run.month),
            result.flags,
            result.user_months,
            result.states,
            self._holding.token,
            now=self._services.clock(),
            model_version=model_version,
            bands=result.bands,
            error=error,
        )

    def finish(
        self, state: str, model_version: str, scope: Scope, rejected: Mapping[str, int]
    ) -> Outcome:
        """End the run; from now on analysts see its results, and what they changed of a closed month."""
        note = scope.note
        standing = self._services.store.ledger.current(str(self._run.month))
        if standing is not None and standing.state == "complete" and standing.id != self._run.id:
            told = self._differences(standing)
            note = told if note is None else f"{note}; {told}"
        run = self._services.store.ledger.finish(
            self._run,
            state,
            self._services.clock(),
            rows_read=scope.rows,
            rows_rejected=rejected,
            model_version=model_version,
            watermark=scope.span.end,
            source="observations",
            note=note,
            token=self._holding.token,
        )
        return published(self._services, run)

    def _differences(self, standing: Run) -> str:
        """Write down which flags came, went and changed against a closed month; in words."""
        store = self._services.store
        found = changes(store.flags.of_run(standing.id), store.flags.of_run(self._run.id))
        store.changes.write(self._run, standing, found, self.token)
        return f"against run {standing.id}, {summary(change.kind for change in found)}"


@dataclass(slots=True)
class Scratch:
    """A dry run of `month`: nothing is written, all is remembered."""

    month: str
    results: list[ShardResult] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Counts]:
        """Let the stage pass."""
        del name
        yield Counts()

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """Let the stage pass."""
        del stage
        yield

    def record(self, stage: str, passed: Passage) -> None:
        """Keep nothing."""

    def finished_shards(self) -> set[int]:
        """None: a dry run begins anew each time."""
        return set()

    def take_over(self, scope: Scope, model_version: str, finished: set[int]) -> set[int]:
        """Nothing, for the same reason."""
        del scope, model_version, finished
        return set()

    def publish(
        self, shard: int, model_version: str, result: ShardResult, error: str | None = None
    ) -> None:
        """Remember the shard."""
        del shard, model_version, error
        self.results.append(result)

    def finish(
        self, state: str, model_version: str, scope: Scope, rejected: Mapping[str, int]
    ) -> Outcome:
        """Add up what was remembered."""
        del rejected
        flags = [flag for result in self.results for flag in result.flags]
        users = [user for result in self.results for user in result.user_months]
        return Outcome(
            self.month,
            "dry",
            sorted(flags, key=lambda flag: (-flag.score, flag.flag_id)),
            sum(user.skipped is None for user in users),
            Counter(user.skipped for user in users if user.skipped is not None),
            model_version,
            scope.note or f"would be {state}",
        )


@contextmanager
def open_run(services: Services, scope: Scope, holding: Holding) -> Iterator[Ledger]:
    """The run in the ledger: an interrupted one that covers the same, else a new one."""
    ledger = services.store.ledger
    run = ledger.resume(
        MONTH_JOB,
        str(scope.month),
        configuration=services.configuration,
        code_version=services.code_version,
        now=scope.now,
        holder=services.holder,
    )
    if run is not None and not covers_the_same(services, run, scope):
        ledger.finish(run, "failed", scope.now, note="interrupted; its rows have changed since")
        run = None
    if run is None:
        run = ledger.start(
            MONTH_JOB,
            str(scope.month),
            configuration=services.configuration,
            code_version=services.code_version,
            now=scope.now,
            holder=services.holder,
            planned_for=closing_time(services, scope.month) if scope.complete else None,
        )
        ledger.stage(run, PLAN_STAGE, 0.0, rows=scope.rows, users=len(scope.users))
    structlog.get_logger().info("month_started", run_id=run.id, month=str(scope.month))
    with failing(services, run):
        yield Ledger(services, run, holding)


def covers_the_same(services: Services, run: Run, scope: Scope) -> bool:
    """Whether an interrupted run's shards can stand beside those that would be scored now."""
    planned = [stage for stage in services.store.ledger.stages(run.id) if stage.stage == PLAN_STAGE]
    whole = months_span(services, scope.month, scope.month.next(), scope.span.grid.step)
    span = None if run.started_at is None else steps_over(whole, run.started_at)
    return (
        run.started_at is not None
        and span is not None
        and span.end == scope.span.end
        and is_closed(services, scope.month, run.started_at) == scope.complete
        and [(stage.rows, stage.users) for stage in planned] == [(scope.rows, len(scope.users))]
        and not services.store.events.changed_since(run.started_at)
    )


def published(services: Services, run: Run, note: str | None = None) -> Outcome:
    """What analysts see of a run."""
    from anomaly.store import FlagFilter

    month = str(run.month)
    rows = services.store.flags.select(FlagFilter(month=month))
    return Outcome(
        month,
        run.state,
        [row.flag for row in rows],
        run.users_scored,
        run.users_skipped,
        run.model_version,
        note or run.note,
    )


@contextmanager
def staged(services: Services, run: Run, name: str) -> Iterator[Counts]:
    """Time a stage of a run and write its figures into the ledger."""
    began = time.perf_counter()
    counts = Counts()
    services.store.ledger.begin_stage(run, name, services.clock())
    with (
        structlog.contextvars.bound_contextvars(run_id=run.id, stage=name),
        services.watch.stage(run, name) as watched,
    ):
        yield counts
    services.store.ledger.stage(
        run,
        name,
        time.perf_counter() - began,
        rows=counts.rows,
        users=counts.users,
        memory=watched.memory,
        skipped=counts.skipped,
        now=services.clock(),
    )
    services.store.ledger.heartbeat(run, services.clock())


@contextmanager
def failing(
    services: Services, run: Run, figures: Callable[[], dict[str, Any]] = dict
) -> Iterator[None]:
    """Mark the run failed if its work raises, and let the error go on.

    A month that is stopped, from the keyboard or by SIGTERM, stays open: the next attempt goes on
    with it, as with one whose process was killed. figures: what has been counted so far.
    """
    try:
        with structlog.contextvars.bound_contextvars(run_id=run.id), services.watch.run(run):
            yield
    except Exception as error:
        note = str(error) if isinstance(error, AnomalyError) else type(error).__name__
        try:
            services.store.ledger.finish(run, "failed", services.clock(), note=note, **figures())
        except AnomalyError as second:
            # A database that is away keeps the run as `running`; the next attempt resumes it.
            structlog.get_logger().warning("failure_not_recorded", error=str(second))
        raise
    except BaseException:
        resumable = run.job == MONTH_JOB
        note = "stopped; the next attempt goes on with it" if resumable else "stopped"
        services.store.ledger.interrupt(run, services.clock(), note, resumable=resumable)
        raise
