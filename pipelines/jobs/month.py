"""The monthly run: ingest, take in late rows, train if due, remember, score, publish.

Nothing after the month's end is ever read, and model, calibration and states see nothing of the
month. Users are scored in shards; each shard is one transaction, and those an interrupted run has
published are not scored again. Users whose work fails are set aside, and the month stays provisional.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from pipelines.exclusive import exclusive
from pipelines.executors import open_executor, refuse_missing
from pipelines.jobs.books import Outcome, Scratch, open_run, published
from pipelines.jobs.footprint import BASE_MEMORY, shard_memory
from pipelines.jobs.ingest import ingest_source
from pipelines.jobs.passes import score_shards
from pipelines.jobs.reading import known_of
from pipelines.jobs.refit import refit_threshold
from pipelines.jobs.reopen import take_in
from pipelines.jobs.scope import Options, Scope, is_closed, scope_of
from pipelines.jobs.scoring import NOT_SELECTED, Scoring, unscored
from pipelines.jobs.states import Memory, MemoryShelf, without_states
from pipelines.jobs.train import model_for

if TYPE_CHECKING:
    import datetime as dt

    from anomaly.months import Month
    from anomaly.store import Run
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
    refuse_missing(services.settings)
    with exclusive(services) as holding:
        services.store.ledger.close_interrupted("train", services.clock())
        standing = services.store.ledger.current(str(month))
        if standing is not None and standing.state == "complete" and not options.force:
            again = [done for done in take_in(services, holding) if done.month == str(month)]
            return again[-1] if again else unchanged(services, standing)
        ingest_source(services, late_since=late_since(services, month))
        refuse_narrowing(standing, options)
        deque(take_in(services, holding, but=month), maxlen=0)
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
    known = known_of(services, scope.people)
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
        sums = score_shards(scoring, known, scope, books, executor, finished)
    if scope.others:
        books.publish(len(scope.users), model.version, unscored(scope.others, NOT_SELECTED))
    if sums.aside:
        users = f"{sums.aside} of {len(scope.users)} users"
        scope = noted(scope, f"{users} not scored; run again to try them")
    for change in reference.changes:
        scope = noted(scope, change.sentence(services.timezone))
    whole = scope.complete and not sums.aside and not reference.changes
    state = "complete" if whole else "provisional"
    return books.finish(state, model.version, scope, sums.rejected)


def noted(scope: Scope, note: str | None) -> Scope:
    """The scope with one more thing that a reader should know."""
    if note is None:
        return scope
    return replace(scope, note=note if scope.note is None else f"{scope.note}; {note}")


def late_since(services: Services, month: Month) -> dt.datetime | None:
    """Since when rows are read again as a month closes, to find late ones of the months before it."""
    months = services.settings.source.late_months
    if not months or not is_closed(services, month, services.clock()):
        return None
    return month.plus(-months).start(services.timezone)


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
