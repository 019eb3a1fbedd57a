"""What a run would do: rows, users, memory, minutes, expected flags."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from anomaly.months import DAYS_PER_MONTH, parse_duration
from pipelines.jobs.footprint import BASE_MEMORY, CELL_BYTES, TRAINED_CELL_BYTES, shard_memory
from pipelines.jobs.reading import seen_between
from pipelines.jobs.scope import Options, is_closed, scope_of
from pipelines.jobs.speed import measure
from pipelines.jobs.states import REFERENCE_USERS
from pipelines.jobs.train import can_train, due, known_metrics, training_sample
from pipelines.machine import this_machine, workers_for
from pipelines.watch import held

if TYPE_CHECKING:
    from anomaly.months import Month
    from anomaly.store import ModelRow, Run
    from pipelines.jobs.scope import Scope
    from pipelines.jobs.speed import Speed
    from pipelines.services import Services

FIT_STAGE = "fit"
ALIKE = 0.25  # of the users learnt from: a training on so many more or fewer takes about as long
RECENT_MONTHS = 3  # whose share of flags is expected again


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run that is started now would do.

    rows: of the month, those that are here already; new_rows: to be read from the source before it.
    learnt: users a model would be trained on, 0 where none is due. history: months to live through
    with each user, 0 where what is known of them is kept. seconds: on the clock; memory: bytes at the
    most. flags: expected, from the months before, None where there are none; chance: of them at most
    by chance, as the threshold allows, or None.
    """

    month: str
    rows: int
    new_rows: int
    users: int
    learnt: int
    history: int
    state: str
    seconds: float
    memory: int
    flags: float | None
    chance: float | None
    standing: str


def plan_month(services: Services, month: Month) -> Plan:
    """Work out the run that would be started now; its work is timed on a few users of the month.

    Raises: as the run would: DataError for an empty month, UsageError for a future one.
    """
    started = started_seconds()
    scope = scope_of(services, month, Options())
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    trains = (champion is None or due(services, champion, month)) and can_train(services.settings)
    learnt = len(training_sample(services, month)[2]) if trains else 0
    history = months_of_history(services, month, None if trains else champion)
    fitted = fitted_before(services, learnt) if trains else None
    speed = measure(services, scope, champion, fits=trains and fitted is None)
    new_rows, reading = to_read(services, scope)
    seconds = (
        started
        + reading
        + (fitted or 0.0)
        + (speed.fit.of(learnt) if speed.fit is not None else 0.0)
        + month_seconds(services, scope, speed, history)
    )
    threshold, users = services.settings.threshold, len(scope.users)
    budget = threshold.kind in {None, "budget"}
    standing = services.store.ledger.current(str(month))
    return Plan(
        month=str(month),
        rows=scope.rows,
        new_rows=new_rows,
        users=users,
        learnt=learnt,
        history=history,
        state="complete" if scope.complete else f"provisional ({scope.note})",
        seconds=seconds,
        memory=memory(services, scope, learnt),
        flags=expected_flags(services, scope),
        chance=threshold.false_flags_per_1000_user_months * users / 1_000 if budget else None,
        standing="nothing" if standing is None else f"run {standing.id}, {standing.state}",
    )  # fmt: skip


def fitted_before(services: Services, learnt: int) -> float | None:
    """Seconds of the newest training on this machine, of about as many users and the same settings."""
    here = services.holder.partition(":")[0]
    stages = services.store.ledger.stages()
    fits = {stage.run_id: stage for stage in stages if stage.stage == FIT_STAGE}
    for run in services.store.ledger.runs(job="train", states=("complete",)):
        fit = fits.get(run.id)
        alike = (run.holder.partition(":")[0], run.configuration) == (here, services.configuration)
        if fit is not None and alike and abs(fit.users - learnt) <= ALIKE * learnt:
            return fit.seconds
    return None


def months_of_history(services: Services, month: Month, champion: ModelRow | None) -> int:
    """Months to live through with each user: none where a model that stays knows them."""
    before = str(month.previous())
    if champion is not None and services.store.states.complete(champion.version, before):
        return 0
    _, span, _ = training_sample(services, month)
    return round((span.end - span.start).days / DAYS_PER_MONTH)


def month_seconds(services: Services, scope: Scope, speed: Speed, history: int) -> float:
    """Seconds of remembering, reference and scoring; shards share the workers."""
    users = len(scope.users)
    run = services.settings.run
    each = shard_memory(services, scope.span, users)
    workers = workers_for(this_machine(), run.workers, BASE_MEMORY, each)
    shards = -(-users // run.shard_users)
    share = users / min(workers, shards)
    start, end = scope.month.previous().start(services.timezone), scope.span.end
    compared = min(REFERENCE_USERS, len(seen_between(services, start, end)))
    lived = speed.reference.of(compared) + speed.replay.of(share)
    return speed.reference.of(compared) + speed.score.of(share) + history * lived


def to_read(services: Services, scope: Scope) -> tuple[int, float]:
    """Rows that the run would read from a database first, by how many come a day, and the seconds."""
    settings = services.settings.source
    if settings.url is None and settings.reader is None:
        return 0, 0.0
    ended = services.store.ledger.runs(job="ingest", states=("complete",), limit=20)
    known = [run for run in ended if run.rows_read and run.seconds]
    if not known:
        return 0, 0.0
    newest = known[0]
    since = services.clock() - (newest.watermark or services.clock())
    days = (since + parse_duration(settings.overlap)).days
    if is_closed(services, scope.month, services.clock()):
        days += round(
            settings.late_months * DAYS_PER_MONTH + (scope.span.end - scope.span.start).days
        )
    rows = int(days * scope.rows / max(1, (scope.span.end - scope.span.start).days))
    speeds = [run.rows_read / run.seconds for run in known if run.seconds]
    return rows, rows / max(speeds)


def memory(services: Services, scope: Scope, learnt: int) -> int:
    """Bytes at the most: what this process holds now that it has tried everything, and its panels."""
    run, users = services.settings.run, len(scope.users)
    each = shard_memory(services, scope.span, users)
    workers = workers_for(this_machine(), run.workers, BASE_MEMORY, each)
    shards = -(-users // run.shard_users)
    cells = len(scope.span.grid) * len(known_metrics(services, scope.span.end))
    compared = CELL_BYTES * min(REFERENCE_USERS, users) * cells
    panels = [compared, each * min(workers, shards)]
    if learnt:
        _, span, _ = training_sample(services, scope.month)
        panels.append(TRAINED_CELL_BYTES * learnt * len(span.grid) * cells // len(scope.span.grid))
    return held() + max(panels)


def expected_flags(services: Services, scope: Scope) -> float | None:
    """Flags for as many users, by the complete months before; None where there are none."""
    runs: list[Run] = [
        run
        for run in services.store.ledger.month_states(limit=None)
        if run.state == "complete" and run.users_scored and str(run.month) < str(scope.month)
    ][:RECENT_MONTHS]
    if not runs:
        return None
    flags, scored = sum(run.flags for run in runs), sum(run.users_scored for run in runs)
    return len(scope.users) * flags / scored


def started_seconds() -> float:
    """What starting this program has taken so far on the clock; a run starts in the same way."""
    return time.time() - psutil.Process().create_time()
