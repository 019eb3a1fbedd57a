"""What a run would do, judged by what runs before it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.jobs.reading import months_span, step_seconds
from pipelines.jobs.scope import Options, scope_of
from pipelines.jobs.train import due, training_sample
from pipelines.machine import this_machine, workers_for

if TYPE_CHECKING:
    from anomaly.months import Month
    from pipelines.jobs.reading import Span
    from pipelines.jobs.scope import Scope
    from pipelines.services import Services

# Measured on 2 cores, hourly, five metrics; used until the ledger knows this machine.
TRAIN_SECONDS = 90.0
USER_SECONDS = 0.01  # reading, scoring and publishing one user's month
HISTORY_SECONDS = 0.006  # reading and replaying one user's month of history
BASE_MEMORY = 600 * 2**20  # bytes: the libraries, TensorFlow among them
CELL_BYTES = 60  # of a user, step and metric that is being scored


def plan_month(services: Services, month: Month) -> list[tuple[str, str]]:
    """Figures of the run that would be started now, by name.

    Raises: as the run would: DataError for an empty month, UsageError for a future one.
    """
    scope = scope_of(services, month, Options())
    trains, history = training(services, month)
    months = history if needs_states(services, month, trains=trains) else 0
    return [
        ("rows in the month", f"{scope.rows:,}"),
        ("users", f"{len(scope.users):,}"),
        ("train a model", "yes" if trains else "no"),
        ("months of history", str(history)),
        ("end as", "complete" if scope.complete else f"provisional ({scope.note})"),
        ("memory", f"about {memory(services, scope) / 2**20:,.0f} MiB"),
        ("minutes", f"about {seconds(services, scope, trains=trains, months=months) / 60:.1f}"),
        ("false flags expected", false_flags(services, len(scope.users))),
        ("stands already", standing(services, month)),
    ]


def training(services: Services, month: Month) -> tuple[bool, int]:
    """Whether a model would be trained, and how many months of history there are for it."""
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    _, span, _ = training_sample(services, month)
    months = round((span.end - span.start).days / 30.44)
    return champion is None or due(services, champion, month), months


def needs_states(services: Services, month: Month, *, trains: bool) -> bool:
    """Whether history must be replayed to know the users."""
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    before = str(month.previous())
    return (
        trains or champion is None or not services.store.states.complete(champion.version, before)
    )


def memory(services: Services, scope: Scope) -> int:
    """Bytes at the most: the libraries, and a shard for each worker."""
    run = services.settings.run
    each = shard_memory(services, scope.span, len(scope.users))
    workers = workers_for(this_machine(), run.workers, BASE_MEMORY, each)
    shards = -(-len(scope.users) // run.shard_users)
    return BASE_MEMORY + each * min(workers, shards)


def shard_memory(services: Services, span: Span, users: int) -> int:
    """Bytes that work on a month of a shard needs, where there are so many users in all."""
    metrics = len(services.store.observations.metrics(before=span.end))
    return CELL_BYTES * min(users, services.settings.run.shard_users) * len(span.grid) * metrics


def seconds(services: Services, scope: Scope, *, trains: bool, months: int) -> float:
    """Seconds it would take: those of the last complete runs, by user, else what was measured."""
    stages = services.store.ledger.stages()
    scored = [stage for stage in stages if stage.stage == "score" and stage.users]
    fitted = [stage.seconds for stage in stages if stage.stage == "fit"]
    steps = len(scope.span.grid)
    whole = months_span(services, scope.month, scope.month.next(), step_seconds(services))
    share = steps / len(whole.grid)
    each = (
        sum(stage.seconds for stage in scored) / sum(stage.users for stage in scored)
        if scored
        else USER_SECONDS * share
    )
    learning = (fitted[-1] if fitted else TRAIN_SECONDS) if trains else 0.0
    return learning + len(scope.users) * (each + months * HISTORY_SECONDS)


def false_flags(services: Services, users: int) -> str:
    """How many flags chance alone is allowed, by the threshold."""
    threshold = services.settings.threshold
    if threshold.kind not in {None, "budget"}:
        return f"by [threshold] kind = {threshold.kind}"
    return f"at most {threshold.false_flags_per_1000_user_months * users / 1_000:.1f}"


def standing(services: Services, month: Month) -> str:
    """What the ledger has of the month."""
    run = services.store.ledger.current(str(month))
    return "nothing" if run is None else f"run {run.id}, {run.state}"
