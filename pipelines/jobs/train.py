"""Learns one model for all users from the months before a given one, and lets the best of them serve.

Beside a network the statistical twin is always fitted, a model of its own. Both, and the champion, are
put to the same trial (`anomaly.trial`); who serves and why is kept with each model.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from anomaly.exceptions import DataError, ModelError, ModelFormatError, UsageError
from anomaly.metrics import infer_specs
from anomaly.months import month_of
from anomaly.panel import Panel
from anomaly.trial import TWIN, Choice, choose, lay, trial_from
from pipelines.figures import track_training
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
    from anomaly.settings import Settings
    from anomaly.store import ModelRow
    from anomaly.trial import Showing
    from pipelines.jobs.reading import People, Span
    from pipelines.services import Services

MAX_METRICS = 256  # a panel is dense; more columns than this is a mistaken mapping
MAX_CELLS = 24_000_000  # user-step-metrics trained on: 100 MB of values, more teaches no better
READ_USERS = 200  # users whose rows are held at once
NO_TRAINING = "TensorFlow is not installed here: another environment trains."


@dataclass(frozen=True, slots=True)
class Serving:
    """The model that scores. note: what a reader of the run should know of it, or None."""

    model: Model
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Contest:
    """What one training came to.

    models: those fitted, the candidate first, then its twin if it is not one itself. showings: of
    those and of the champion, by version; empty where nothing could be judged.
    """

    models: tuple[Model, ...]
    champion: Model | None
    showings: Mapping[str, Showing]
    choice: Choice

    @property
    def serves(self) -> Model:
        """The model that was chosen."""
        known = [*self.models, *([] if self.champion is None else [self.champion])]
        return next(model for model in known if model.version == self.choice.version)


def model_for(services: Services, month: Month, *, train: bool, keep: bool = True) -> Serving:
    """The model that scores a month: the champion of its time, or a new one where that is due.

    Args: train: whether a new one may be trained. keep: register and promote it; otherwise it
        lives in memory alone.
    Raises: UsageError if there is none and none may be trained; DataError without history;
        ModelError if the champion's files fail their checks and those of its twin too.
    """
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    if champion is None:
        refuse_untrained(services, month, train=train)
        why = "no model was trained before it with this configuration"
    elif not (train and due(services, champion, month)):
        try:
            return serving(services, champion)
        except ModelFormatError as error:
            if not (train and can_train(services.settings)):
                raise
            why = f"model {champion.version}: {error}"
    elif can_train(services.settings):
        why = f"the last training is over {services.settings.model.retrain_months} months old"
    else:
        return noted(serving(services, champion), "training was due, but " + NO_TRAINING)
    structlog.get_logger().info("training_due", month=str(month), reason=why)
    if keep:
        return Serving(train_and_register(services, month))
    return Serving(hold_contest(services, month).serves)


def refuse_untrained(services: Services, month: Month, *, train: bool) -> None:
    """Refuse a month before which no model was trained, where none may or can be.

    Raises: UsageError.
    """
    if not train:
        raise UsageError(
            f"{month}: no model was trained before it with this configuration. "
            "Run without --no-train."
        )
    if not can_train(services.settings):
        raise UsageError(
            f"{month}: no model was trained before it with this configuration, and {NO_TRAINING} "
            'Train it there first, or set [model] cell = "none" for the twin alone.'
        )


def can_train(settings: Settings) -> bool:
    """Whether this environment holds what training needs; scoring does without."""
    return settings.model.cell == TWIN or importlib.util.find_spec("tensorflow") is not None


def noted(serves: Serving, note: str) -> Serving:
    """The same, with one more thing to know of the run."""
    structlog.get_logger().warning("training_left_out", reason=note)
    return Serving(serves.model, note if serves.note is None else f"{serves.note}; {note}")


def due(services: Services, champion: ModelRow, month: Month) -> bool:
    """Whether training was last tried longer ago than [model] retrain_months.

    A candidate that did not win counts too: the champion it could not beat is not challenged anew
    each month.
    """
    start = month.start(services.timezone)
    tried = [
        row.trained_to
        for row in services.store.models.list()
        if row.configuration == champion.configuration and row.trained_to <= start
    ]
    oldest = month.plus(-services.settings.model.retrain_months).start(services.timezone)
    return max(tried, default=champion.trained_to) < oldest


def load_model(services: Services, row: ModelRow) -> Model:
    """Read a registered model; its files are verified first.

    Raises: ModelError if they fail.
    """
    files = services.artefacts.read(row.address, row.sha256)
    return services.engine().Model.from_files(files)


def serving(services: Services, row: ModelRow) -> Serving:
    """A registered model, or its twin where the model's files fail their checks.

    Raises: ModelError if the twin's fail too, or none was fitted beside it.
    """
    try:
        return Serving(load_model(services, row))
    except ModelError as error:
        if row.twin is None:
            raise
        twin = load_model(services, services.store.models.get(row.twin))
        note = f"the twin {twin.version} scored in place of model {row.version}: {error}"
        structlog.get_logger().warning(
            "model_unreadable", model=row.version, serves=twin.version, error=str(error)
        )
        return Serving(twin, note)


def train_and_register(
    services: Services, month: Month, planned_for: dt.datetime | None = None
) -> Model:
    """Train, store the files, register who was fitted and promote who won, with a row in the ledger."""
    services.store.ledger.close_interrupted("train", services.clock())
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
            contest = hold_contest(services, month)
            counts.users = contest.models[0].summary.users
        with staged(services, run, "register"):
            register(services, contest)
        track_training(services, contest)
        serves, reason = contest.serves, contest.choice.reason
        structlog.get_logger().info("model_chosen", model=serves.version, reason=reason)
        services.store.ledger.finish(
            run, "complete", services.clock(), model_version=serves.version, note=reason
        )
    return serves


def hold_contest(services: Services, month: Month) -> Contest:
    """Fit a candidate and its twin on the months before `month`, and choose among them and the champion.

    Nothing of the month or after it is read.
    Raises: DataError if there is no history or more metrics than a panel can hold; ModelError if no
        model has a finite loss.
    """
    panel, specs = history_of(services, month)
    candidate = fit(services, services.settings, panel, specs)
    models = [candidate]
    if candidate.network_spec.cell != TWIN:
        models.append(fit(services, twin_settings(services.settings), panel, specs))
    twin = models[-1]
    champion = challenged(services, month, candidate)
    refuse_all_infinite(models)
    engine, calendar = services.engine(), calendar_of(services)
    able = [model for model in models if math.isfinite(model.summary.validation_loss)]
    if able == [twin] and twin is not candidate:
        loss = candidate.summary.validation_loss
        reason = f"the twin {twin.version} serves: network {candidate.version} has a validation loss of {loss}"
        return Contest(tuple(models), champion, {}, Choice(twin.version, reason))
    trial = lay(
        panel, trial_from(panel.grid, services.timezone), specs, services.settings.model.seed
    )
    put = [*models, *([] if champion is None else [champion])]
    showings: dict[str, Showing] = {}
    with services.progress.track("comparing with the twin", len(put)) as advance:
        for model in put:
            showings[model.version] = engine.examine(model, trial, calendar)
            advance(1)
    choice = choose(
        showings[candidate.version],
        None if twin is candidate else showings[twin.version],
        None if champion is None else showings[champion.version],
    )
    return Contest(tuple(models), champion, showings, choice)


def refuse_all_infinite(models: Sequence[Model]) -> None:
    """Refuse to go on where nothing that was fitted says anything.

    Raises: ModelError.
    """
    last = models[-1]
    if not math.isfinite(last.summary.validation_loss):
        raise ModelError(
            f"model {last.version}: validation loss is {last.summary.validation_loss}, so it is not "
            "used. Check the values of history (anomaly check), or keep the champion: "
            "anomaly run --no-train"
        )


def challenged(services: Services, month: Month, candidate: Model) -> Model | None:
    """The champion that a candidate is measured against: of the same metrics and grid, and readable."""
    row = services.store.models.champion(month.start(services.timezone), services.configuration)
    if row is None:
        return None
    try:
        champion = load_model(services, row)
    except ModelError as error:
        structlog.get_logger().warning("champion_unreadable", model=row.version, error=str(error))
        return None
    same = (champion.metrics, champion.step) == (candidate.metrics, candidate.step)
    return champion if same and champion.version != candidate.version else None


def history_of(services: Services, month: Month) -> tuple[Panel, dict[str, MetricSpec]]:
    """What models learn from: the users' history, and what its metrics are."""
    people, span, users = training_sample(services, month)
    specs = find_specs(services, span, users)
    return history_panel(services, span, people, users, specs), specs


def fit(
    services: Services, settings: Settings, panel: Panel, specs: Mapping[str, MetricSpec]
) -> Model:
    """Fit a model under these settings."""
    return services.engine().fit(
        panel, specs, calendar_of(services), settings, settings.model.seed, services.progress
    )


def twin_settings(settings: Settings) -> Settings:
    """The same settings, for the twin alone."""
    return settings.model_copy(update={"model": settings.model.model_copy(update={"cell": TWIN})})


def training_sample(services: Services, month: Month) -> tuple[People, Span, Sequence[str]]:
    """Whom to learn from, and which months: users by hash, some of each department and role, as many as
    memory allows.
    """
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
    groups = {
        user.user_id: (user.department, user.role)
        for user in services.store.users.read()
        if user.department is not None or user.role is not None
    }
    return people, span, sample(recent, min(settings.sample_users, largest), groups)


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
    begun, calendar = 0, calendar_of(services)
    with services.progress.track("reading history", len(users)) as advance:
        for shard in chunks(users, READ_USERS):
            panel = read_panel(services, span, people, shard, specs, calendar).panel
            rows = slice(begun, begun + len(shard))
            values[rows], mask[rows] = panel.values, panel.mask
            first[rows], last[rows] = panel.first, panel.last
            begun += len(shard)
            advance(len(shard))
    return Panel(tuple(users), tuple(specs), span.grid, values, mask, first, last)


def register(services: Services, contest: Contest) -> None:
    """Store the files of all that were fitted, and make champion who was chosen.

    A model for an old month does not displace one that was trained on later data; its month
    finds it all the same. Who did not win stays a candidate; without a finite loss it is refused.
    """
    models, now = services.store.models, services.clock()
    champion = models.champion()
    twin = contest.models[-1].version
    for model in contest.models:
        summary, showing = model.summary, contest.showings.get(model.version)
        stored = services.artefacts.write(model.version, model.to_files())
        trained_to = dt.datetime.fromtimestamp(summary.trained_to, dt.UTC)
        serves = model.version == contest.choice.version
        later = champion is not None and champion.trained_to > trained_to
        models.register(
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
            state="retired" if serves and later else "candidate",
            now=now,
            note=contest.choice.reason,
            cell=model.network_spec.cell,
            families=model.likelihoods,
            twin=None if model.version == twin else twin,
            trial=None if showing is None else _trial_of(showing),
        )
        if not math.isfinite(summary.validation_loss):
            models.refuse(model.version, f"validation loss is {summary.validation_loss}")
        elif serves and not later:
            models.promote(model.version, now)


def _trial_of(showing: Showing) -> dict[str, float | None]:
    """The figures of a showing."""
    figures = asdict(showing)
    return {name: figures[name] for name in ("likelihood", "planted", "found", "flags", "users")}
