"""Learns one model for all users from the months before a given one, and registers it."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import DataError, ModelError, UsageError
from anomaly.metrics import infer_specs
from anomaly.months import month_of
from anomaly.panel import Panel
from pipelines.jobs.books import failing, staged
from pipelines.jobs.reading import (
    calendar_of,
    chunks,
    months_span,
    people_before,
    read_panel,
    read_rows,
    sample,
    seen_between,
    step_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.engine import Model
    from anomaly.metrics import MetricSpec
    from anomaly.months import Month
    from anomaly.store import ModelRow
    from pipelines.jobs.reading import People, Span
    from pipelines.services import Services

MAX_METRICS = 256  # a panel is dense; more columns than this is a mistaken mapping
MAX_CELLS = 24_000_000  # user-step-metrics trained on: 100 MB of values, more teaches no better
READ_USERS = 200  # users whose rows are held at once


def model_for(services: Services, month: Month, *, train: bool, keep: bool = True) -> Model:
    """The model that scores a month: the champion of its time, or a new one where that is due.

    Args: train: whether a new one may be trained. keep: register and promote it; otherwise it
        lives in memory alone.
    Raises: UsageError if there is none and none may be trained; DataError without history;
        ModelError if the champion's files fail their checks.
    """
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    if champion is not None and not (train and due(services, champion, month)):
        return load_model(services, champion)
    if not train:
        raise UsageError(
            f"{month}: no model was trained before it with this configuration. "
            "Run without --no-train."
        )
    return train_and_register(services, month) if keep else train_model(services, month)


def due(services: Services, champion: ModelRow, month: Month) -> bool:
    """Whether the champion was trained longer ago than [model] retrain_months."""
    oldest = month.plus(-services.settings.model.retrain_months).start(services.timezone)
    return champion.trained_to < oldest


def load_model(services: Services, row: ModelRow) -> Model:
    """Read a registered model; its files are verified first.

    Raises: ModelError if they fail.
    """
    files = services.artefacts.read(row.address, row.sha256)
    return services.engine().Model.from_files(files)


def train_and_register(
    services: Services, month: Month, planned_for: dt.datetime | None = None
) -> Model:
    """Train, store the files, register and promote, with a row in the ledger."""
    run = services.store.ledger.start(
        "train",
        configuration=services.configuration,
        code_version=services.code_version,
        now=services.clock(),
        holder=services.holder,
        planned_for=planned_for,
    )
    with failing(services, run):
        with staged(services, run, "fit") as counts:
            model = train_model(services, month)
            counts.users = model.summary.users
        with staged(services, run, "register"):
            register(services, model)
        services.store.ledger.finish(run, "complete", services.clock(), model_version=model.version)
    return model


def train_model(services: Services, month: Month) -> Model:
    """Fit a model on the months before `month`; nothing of the month or after it is read.

    Raises: DataError if there is no history or more metrics than a panel can hold.
    """
    people, span, users = training_sample(services, month)
    specs = find_specs(services, span, users)
    panel = history_panel(services, span, people, users, specs)
    settings = services.settings
    return services.engine().fit(
        panel, specs, calendar_of(services), settings, settings.model.seed, services.progress
    )


def training_sample(services: Services, month: Month) -> tuple[People, Span, Sequence[str]]:
    """Whom to learn from, and which months: users by hash, as many as memory allows."""
    settings = services.settings.model
    end = month.start(services.timezone)
    people = people_before(services, end)
    if not people.users:
        raise DataError(
            f"{month}: there are no rows before it, so nothing can be learnt. Import earlier "
            "months, or run a later one."
        )
    earliest = month_of(min(people.first_seen.values()), services.timezone)
    first = max(month.plus(-settings.history_months), earliest)
    span = months_span(services, first, month, step_seconds(services))
    largest = max(1, MAX_CELLS // (len(span.grid) * len(known_metrics(services, end))))
    recent = seen_between(services, span.start, end)
    if not recent:
        raise DataError(
            f"{month}: the {settings.history_months} months before it hold no rows. Import them, "
            "or raise [model] history_months."
        )
    return people, span, sample(recent, min(settings.sample_users, largest))


def known_metrics(services: Services, end: dt.datetime) -> list[str]:
    """The metrics first seen before `end`.

    Raises: DataError if there are more than a panel can hold.
    """
    metrics = services.store.observations.metrics(before=end)
    if len(metrics) > MAX_METRICS:
        raise DataError(
            f"observations hold {len(metrics)} metrics, at most {MAX_METRICS} fit on one panel "
            f"(the first: {', '.join(repr(name[:40]) for name in metrics[:3])}). Check which "
            "column is mapped to `metric`, or import the metrics that matter."
        )
    return metrics


def find_specs(services: Services, span: Span, users: Sequence[str]) -> dict[str, MetricSpec]:
    """What each metric is, found from the first users who have it."""
    metrics = known_metrics(services, span.end)
    found: dict[str, MetricSpec] = {}
    for shard in chunks(users, READ_USERS):
        rows = read_rows(services, span, shard)
        found = infer_specs(rows, span.grid.step, services.settings.metric) | found
        if len(found) == len(metrics):
            break
    return {name: found[name] for name in metrics if name in found}


def history_panel(
    services: Services,
    span: Span,
    people: People,
    users: Sequence[str],
    specs: Mapping[str, MetricSpec],
) -> Panel:
    """The users' history on one grid, read a few users at a time."""
    shape = (len(users), len(span.grid), len(specs))
    values, mask = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    first, last = np.zeros(len(users), np.int64), np.zeros(len(users), np.int64)
    begun = 0
    with services.progress.track("reading history", len(users)) as advance:
        for shard in chunks(users, READ_USERS):
            panel = read_panel(services, span, people, shard, specs).panel
            rows = slice(begun, begun + len(shard))
            values[rows], mask[rows] = panel.values, panel.mask
            first[rows], last[rows] = panel.first, panel.last
            begun += len(shard)
            advance(len(shard))
    return Panel(tuple(users), tuple(specs), span.grid, values, mask, first, last)


def register(services: Services, model: Model) -> ModelRow:
    """Store the model's files and make it champion.

    A model for an old month does not displace one that was trained on later data; its month
    finds it all the same.
    Raises: ModelError if its validation failed; it is refused then and nobody uses it.
    """
    summary = model.summary
    stored = services.artefacts.write(model.version, model.to_files())
    models, now = services.store.models, services.clock()
    trained_to = dt.datetime.fromtimestamp(summary.trained_to, dt.UTC)
    champion = models.champion()
    later = champion is not None and champion.trained_to > trained_to
    row = models.register(
        version=model.version,
        address=stored.address,
        sha256=stored.sha256,
        trained_from=dt.datetime.fromtimestamp(summary.trained_from, dt.UTC),
        trained_to=trained_to,
        validation_loss=summary.validation_loss,
        twin_loss=summary.twin_loss,
        calibration_error=summary.calibration_error,
        users=summary.users,
        metrics=model.metrics,
        configuration=services.configuration,
        state="retired" if later else "candidate",
        now=now,
    )
    if not math.isfinite(summary.validation_loss):
        note = f"validation loss is {summary.validation_loss}"
        models.refuse(model.version, note)
        raise ModelError(
            f"model {model.version}: {note}, so it is not used. Lower [model] learning_rate, or "
            "keep the champion: anomaly run --no-train"
        )
    return row if later else models.promote(model.version, now)
