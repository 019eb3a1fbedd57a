"""Takes late rows and events into months that are closed: only the users touched are scored again.

Everyone else's results are copied word for word, and the month keeps the model it was scored with. A
user's rows and days of one month are part of what is known of them in the months after it, so those are
reopened for the same users. The run before is kept as superseded, and what became different is written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError, BusyError, DataError, SourceError, UsageError
from anomaly.months import Month
from anomaly.wording import counted, listed
from pipelines.executors import open_executor
from pipelines.jobs.books import MONTH_JOB, Ledger, failing
from pipelines.jobs.footprint import BASE_MEMORY, shard_memory
from pipelines.jobs.passes import score_shards
from pipelines.jobs.reading import known_of, months_span, people_before
from pipelines.jobs.retention import kept_since
from pipelines.jobs.scope import Scope
from pipelines.jobs.scoring import Scoring
from pipelines.jobs.states import Memory, without_states
from pipelines.jobs.train import load_model

if TYPE_CHECKING:
    from anomaly.store import Run
    from pipelines.exclusive import Holding
    from pipelines.jobs.books import Outcome
    from pipelines.jobs.reading import Span
    from pipelines.services import Services

NAMED = 3  # events that a run's note names


def take_in(services: Services, holding: Holding, but: Month | None = None) -> Iterator[Outcome]:
    """Reopen each closed month for which something late waits, the earliest first; not `but`.

    A month that cannot be reopened stands as it is, and what came late goes on waiting.
    """
    closed = services.store.ledger.runs(job=MONTH_JOB, states=("complete",))
    waiting = services.store.late.waiting()
    for run in sorted(closed, key=lambda run: str(run.month)):
        if run.month not in waiting or run.month == str(but):
            continue
        try:
            yield reopen(services, holding, run)
        except (BusyError, SourceError):
            raise
        except AnomalyError as error:
            log = structlog.get_logger()
            log.warning("month_not_reopened", month=run.month, error=str(error))


def reopen(services: Services, holding: Holding, standing: Run) -> Outcome:
    """Score the users anew of whom rows or events came late in a closed month, and publish it again.

    Raises: UsageError if the settings have changed since, or its rows are no longer kept; DataError
        if a user cannot be scored; ModelError if its model is gone.
    """
    month, touched = Month.parse(str(standing.month)), services.store.late.waiting_of(standing)
    refuse_mixture(services, month, standing)
    model = load_model(services, services.store.models.get(str(standing.model_version)))
    span = months_span(services, month, month.next(), model.step)
    people = people_before(services, span.end)
    users = tuple(user for user in people.users if user in touched)
    scope = Scope(
        month, services.clock(), span, people, users, (), 0, complete=True,
        note=f"reopened: {late_things(services, span, standing)} of {counted(len(users), 'user')}",
    )  # fmt: skip
    services.store.ledger.close_interrupted(MONTH_JOB, scope.now, str(month))
    run = services.store.ledger.start(
        MONTH_JOB,
        str(month),
        configuration=services.configuration,
        code_version=services.code_version,
        now=scope.now,
        holder=services.holder,
    )
    structlog.get_logger().info("month_reopened", run_id=run.id, month=str(month), users=len(users))
    with failing(services, run):
        books = Ledger(services, run, holding)
        first = copy_others(services, books, run, standing, touched)
        known = known_of(services, people)
        memory = Memory.open(services, None, model, month, known)
        each = shard_memory(services, span, len(users))
        with open_executor(services.settings, BASE_MEMORY, each, here=False) as executor:
            with books.stage("remember") as counts:
                counts.rows = memory.renew(executor, users)
            with books.stage("reference") as counts:
                reference, laid = memory.reference(span)
                counts.rows, counts.users = laid.rows, len(laid.panel.users)
            scoring = Scoring(
                services, month, span, memory.past, None, without_states(reference), closed=True
            )
            sums = score_shards(scoring, known, scope, books, executor, set(), first=first)
        if sums.aside:
            raise DataError(
                f"{month}: {sums.aside} of {len(users)} users touched could not be scored again. It "
                "stands as it was; the next run tries again."
            )
        scope = replace(scope, rows=sums.rows)
        return books.finish("complete", model.version, scope, sums.rejected)


def late_things(services: Services, span: Span, standing: Run) -> str:
    """What came late since a month was scored: rows; or the calendar's events, by name, and maybe rows."""
    entries = services.store.events.list(withdrawn=True, since=standing.started_at)
    here = [entry.event for entry in entries if entry.event.start < span.end]
    if not here:
        return "late rows"
    # What a user's own event is called is that user's business.
    names = list(
        dict.fromkeys(event.kind if event.user_id else event.name or event.kind for event in here)
    )
    return f"a changed calendar ({listed(names, NAMED)}) or late rows"


def refuse_mixture(services: Services, month: Month, standing: Run) -> None:
    """Refuse to set flags made by other settings, or of rows that are gone, beside those that stand.

    Raises: UsageError.
    """
    if standing.configuration != services.configuration:
        raise UsageError(
            f"{month}: late rows or events wait, and the settings have changed since it was scored. Score it "
            f"anew: anomaly run --month {month} --force"
        )
    oldest = kept_since(services)
    if oldest is not None and month < oldest:
        raise UsageError(
            f"{month}: late rows or events wait, and [retention] keeps no rows before {oldest}. It stands as it "
            "is."
        )


def copy_others(
    services: Services, books: Ledger, run: Run, standing: Run, touched: frozenset[str]
) -> int:
    """Take over what stands of everyone else; gives the number of the first shard that is free."""
    shards = services.store.shards
    with books.stage("copy") as counts:
        numbers = shards.of(standing.id)
        shards.adopt(run, standing.id, numbers, books.token, services.clock(), without=touched)
        counts.users = standing.users_scored + standing.skipped - len(touched)
    return max(numbers, default=-1) + 1
