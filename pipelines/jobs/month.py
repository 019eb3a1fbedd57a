"""The monthly run: ingest, train if due, remember, score, publish.

Nothing after the month's end is ever read, and model, calibration and states see nothing of the
month. Users are scored in shards; each shard is one transaction, and those an interrupted run has
published are not scored again. Users whose work fails are set aside, and the month stays provisional.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from pipelines.exclusive import exclusive
from pipelines.executors import open_executor
from pipelines.jobs.books import Outcome, Scratch, open_run, published
from pipelines.jobs.ingest import ingest_source
from pipelines.jobs.passes import Passed, each_shard
from pipelines.jobs.plan import BASE_MEMORY, shard_memory
from pipelines.jobs.reading import Known, calendar_of, chunks
from pipelines.jobs.refit import refit_threshold
from pipelines.jobs.scope import Options, Scope, scope_of
from pipelines.jobs.scoring import NOT_SELECTED, Scoring, unscored
from pipelines.jobs.states import Memory, MemoryShelf, without_states
from pipelines.jobs.train import model_for

if TYPE_CHECKING:
    from anomaly.months import Month
    from anomaly.store import Run
    from pipelines.executors import Executor
    from pipelines.jobs.books import Books
    from pipelines.services import Services

DEFAULTS = Options()


def run_month(services: Services, month: Month, options: Options = DEFAULTS) -> Outcome:
    """Score a month and publish its flags.

    Raises: BusyError if another process works on this database; DataError if the month is empty
        or has no history; UsageError if it has not begun; SourceError, ModelError.
    """
    if options.dry_run:
        return score_month(
            services, scope_of(services, month, options), options, Scratch(str(month))
        )
    with exclusive(services) as holding:
        services.store.ledger.close_interrupted("train", services.clock())
        standing = services.store.ledger.current(str(month))
        if standing is not None and standing.state == "complete" and not options.force:
            return unchanged(services, standing)
        ingest_source(services)
        refuse_narrowing(standing, options)
        scope = scope_of(services, month, options)
        if services.settings.feedback.refit:
            refit_threshold(services)
        with open_run(services, scope, holding) as ledger:
            return score_month(services, scope, options, ledger)


def score_month(services: Services, scope: Scope, options: Options, books: Books) -> Outcome:
    """Model, states, reference, then shard after shard."""
    month = scope.month
    with books.stage("model"):
        serving = model_for(services, month, train=options.train, keep=not options.dry_run)
    model, scope = serving.model, noted(scope, serving.note)
    shelf = MemoryShelf(services.store) if options.dry_run else None
    known = Known(scope.people, calendar_of(services))
    memory = Memory.open(services, shelf, model, month, known)
    each = shard_memory(services, scope.span, len(scope.users))
    with open_executor(services.settings, BASE_MEMORY, each, here=options.dry_run) as executor:
        if not options.users:
            with books.stage("remember") as counts:
                counts.rows = memory.prepare(executor, scope.users)
        with books.stage("reference") as counts:
            reference, laid = memory.reference(scope.span)
            counts.rows, counts.users = laid.rows, len(laid.panel.users)
        finished = books.finished_shards()
        if not options.force:
            finished |= books.take_over(scope, model.version, finished)
        scoring = Scoring(
            services, month, scope.span, memory.past, shelf, without_states(reference),
            scope.complete,
        )  # fmt: skip
        negative, aside = score_shards(scoring, known, scope, books, executor, finished)
    if scope.others:
        books.publish(len(scope.users), model.version, unscored(scope.others, NOT_SELECTED))
    if aside:
        users = f"{aside} of {len(scope.users)} users"
        scope = noted(scope, f"{users} not scored; run again to try them")
    state = "complete" if scope.complete and not aside else "provisional"
    rejected = {"negative_count": negative} if negative else {}
    return books.finish(state, model.version, scope, rejected)


def score_shards(
    scoring: Scoring, known: Known, scope: Scope, books: Books, executor: Executor,
    finished: set[int],
) -> tuple[int, int]:  # fmt: skip
    """Score and publish the shards that are not finished.

    Returns: how many counts were below zero, and how many users were set aside.
    """
    services, version = scoring.services, scoring.past.model.version
    shards = dict(enumerate(chunks(scope.users, services.settings.run.shard_users)))
    left = {number: users for number, users in shards.items() if number not in finished}
    negative, aside = 0, 0
    with services.progress.track(f"scoring {scope.month}", len(scope.users)) as advance:
        advance(sum(len(shards[number]) for number in finished & set(shards)))
        passing = each_shard(executor, scoring, known, left, hopeful=bool(finished))
        for number, passed in awaited(books, passing):
            for part in passed.parts:
                books.record("score", part)
                negative += part.negative
            with books.stage("publish"):
                books.publish(number, version, passed.result, passed.error)
            aside += len(passed.at_fault)
            advance(len(shards[number]))
    return negative, aside


def awaited(books: Books, passing: Iterator[tuple[int, Passed]]) -> Iterator[tuple[int, Passed]]:
    """What passes, one after another, each wait for the next watched as part of the stage."""
    while True:
        with books.waiting("score"):
            found = next(passing, None)
        if found is None:
            return
        yield found


def noted(scope: Scope, note: str | None) -> Scope:
    """The scope with one more thing that a reader should know."""
    if note is None:
        return scope
    return replace(scope, note=note if scope.note is None else f"{scope.note}; {note}")


def refuse_narrowing(standing: Run | None, options: Options) -> None:
    """A complete month is not replaced by a few of its users.

    Raises: UsageError.
    """
    if options.users and standing is not None and standing.state == "complete":
        raise UsageError(
            f"{standing.month} is complete; --users would leave only some of it. "
            "Look at a few users with --dry-run."
        )


def unchanged(services: Services, standing: Run) -> Outcome:
    """What a second run of a complete month says."""
    note = f"{standing.month} is complete since {standing.finished_at:%Y-%m-%d %H:%M} UTC; nothing changed"
    if standing.configuration != services.configuration:
        note += ". The configuration has changed since: run with --force to score it again"
    return published(services, standing, note)
