"""fit: history in, model out. Learns the twin's prior, the network, calibration and the threshold.

History is cut in time: the network trains on the earlier part; how surprising things usually are is
measured on the later part, which training did not see.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from anomaly import cohorts, features, scan, surprise, twin
from anomaly.calendar import CalendarContext, LocalCalendar, local_calendar, slot_count
from anomaly.calibration import CentralMap, TailMap, calibration_error, fit_central, fit_tail
from anomaly.exceptions import DataError, SettingsError
from anomaly.likelihoods.links import Links
from anomaly.model import Model, Summary
from anomaly.months import parse_duration
from anomaly.networks.spec import NetworkSpec, refuse_unserved
from anomaly.networks.training import Trained, TrainingData, train
from anomaly.panel import DAY_SECONDS
from anomaly.progress import SILENT
from anomaly.reading import days_of, read, twin_days
from anomaly.scanning import chunk_deviations, chunks_of
from anomaly.states import States
from anomaly.thresholds import budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.metrics import MetricSpec
    from anomaly.panel import Panel
    from anomaly.progress import Progress
    from anomaly.settings import ModelSettings, Settings
    from anomaly.twin import TwinPrior, TwinState

TRAIN_SHARE = 0.75  # of history in time; the rest validates and calibrates
LEAST_STEPS = 48  # a history shorter than this says nothing
MOST_CELLS = 12_000_000  # users x steps x metrics held while training; more users are not needed
MOST_BATCH = 128
SAMPLE = 200_000  # values that a tail is fitted to
FOLDS = 4  # parts of later history for cross-fitting
LEAST_TAIL = 1e-12
FEW_USERS = 20  # below, a budget per user-months says nothing
TAIL_UNIT = 1_000  # steps
MONTH_DAYS = 30.44


def fit(
    history: Panel,
    specs: Mapping[str, MetricSpec],
    calendar: CalendarContext,
    settings: Settings,
    seed: int,
    progress: Progress = SILENT,
) -> Model:
    """Learn from history: a panel of (sampled) users over all steps before the scored ones.

    Raises: DataError if history is too short; SettingsError if the network cannot be served.
    """
    refuse_unserved(settings.model)
    if settings.threshold.kind in {"fdr", "dynamic"}:
        raise SettingsError(
            f"[threshold] kind = {settings.threshold.kind!r}: this version serves 'budget' and 'tail'. "
            "Set one of these."
        )
    _refuse_short(history)
    history = _bounded(history)
    ordered = tuple(specs[metric] for metric in history.metrics)
    split = _split(history, calendar.timezone)
    ready = _prepare(history, ordered, calendar, settings, split, progress)
    spec = NetworkSpec(
        settings.model.cell, settings.model.layers, settings.model.units,
        features.input_size(len(ordered)), len(ordered), _batch_size(len(history.users)),
    )  # fmt: skip
    with progress.track("training", settings.model.steps) as advance:
        trained = train(ready.data, spec, settings.model, seed, advance)
    return _calibrated(
        history, ordered, calendar, settings, seed, ready, spec, trained, split, progress
    )


def _refuse_short(history: Panel) -> None:
    if len(history.grid) < LEAST_STEPS or not history.mask.any():
        raise DataError(
            f"history: {len(history.grid)} steps of {history.grid.step} s before the scored part, at least "
            f"{LEAST_STEPS} with data are needed. Import earlier data, or score a later month."
        )


def _bounded(history: Panel) -> Panel:
    """As many users as memory allows, chosen evenly over their order."""
    most = max(1, MOST_CELLS // (len(history.grid) * len(history.metrics)))
    if len(history.users) <= most:
        return history
    return history.take(np.linspace(0, len(history.users) - 1, most).astype(np.int64))


def _batch_size(users: int) -> int:
    size = 1
    while size < min(users, MOST_BATCH):
        size *= 2
    return size


def _split(history: Panel, timezone: str) -> int:
    """The step at which later history begins: a day's start where there are enough days."""
    steps = len(history.grid)
    starts = np.array([first for first, _ in days_of(history.grid, timezone)])
    target = int(steps * TRAIN_SHARE)
    inside = starts[(starts > steps // 2) & (starts < steps * 0.9)]
    return int(inside[np.abs(inside - target).argmin()]) if len(inside) else target


@dataclass(frozen=True, slots=True)
class _Ready:
    links: Links
    prior: TwinPrior
    state: TwinState
    horizon: int
    data: TrainingData


def _prepare(
    history: Panel, specs: Sequence[MetricSpec], context: CalendarContext, settings: Settings,
    split: int, progress: Progress,
) -> _Ready:  # fmt: skip
    """Run the twin over history and lay out what the network trains on."""
    links = Links.fit(specs, history.values, history.mask & history.present[..., None])
    seen = features.observe(history, links)
    calendar = local_calendar(history.users, history.grid, context)
    prior = _prior(seen, calendar, links, history.grid.step, split)
    horizon = horizon_steps(settings.model, history.grid.step)
    users, steps, metrics = history.shape
    shown = np.zeros((users, steps + horizon, 2 * metrics), np.float32)
    inputs = np.empty((users, steps, features.input_size(metrics)), np.float16)
    said = [np.empty(history.shape, np.float32) for _ in range(3)]
    state = twin.TwinState.empty(users, slot_count(history.grid.step), metrics)
    days = days_of(history.grid, context.timezone)
    with progress.track("learning habits", len(days)) as advance:
        for day in twin_days(seen, calendar, days, history.grid.step, state, prior):
            at = np.s_[:, day.first : day.last]
            part = seen.steps(day.first, day.last)
            shown[:, day.first + horizon : day.last + horizon] = features.current(
                part, day.said, links.hurdle
            )
            inputs[at] = features.inputs(
                shown[at], day.said, day.level, calendar.features[at], day.days
            )
            for array, value in zip(
                said, (day.said.active_logit, day.said.location, day.said.spread), strict=True
            ):
                array[at] = value
            state = day.after
            advance(1)
    data = TrainingData.of(inputs, shown[:, horizon:], seen, twin.TwinForecast(*said), split)
    return _Ready(links, prior, state, horizon, data)


def horizon_steps(model: ModelSettings, step: int) -> int:
    """How many steps lie between what the network has read and what it forecasts."""
    if model.horizon == "auto":
        return 1
    return max(1, round(parse_duration(model.horizon).total_seconds() / step))


def _prior(
    seen: features.Observed, calendar: LocalCalendar, links: Links, step: int, split: int
) -> TwinPrior:
    early = seen.steps(0, split)
    width = np.array([_width(early, m) for m in range(early.mask.shape[-1])], dtype=np.float32)
    return twin.fit_prior(
        calendar.slot[:, :split],
        slot_count(step),
        early.active,
        early.middle,
        early.mask,
        links.hurdle,
        width,
    )


def _width(seen: features.Observed, metric: int) -> float:
    """The usual linked width of an observed value: no spread is finer than the resolution."""
    active = seen.active[..., metric]
    if not active.any():
        return 1e-3
    return float(np.median((seen.high[..., metric] - seen.low[..., metric])[active])) / 4


def _calibrated(
    history: Panel, specs: tuple[MetricSpec, ...], context: CalendarContext, settings: Settings, seed: int,
    ready: _Ready, spec: NetworkSpec, trained: Trained, split: int, progress: Progress,
) -> Model:  # fmt: skip
    """Read history with the network, and measure what is usual on the later part of it."""
    blank = _blank(history, specs, context, ready, spec, trained, settings, seed)
    start = States.empty(blank, history.users)
    with progress.track("calibrating", 3) as advance:
        reading, _ = read(
            history, ready.links, ready.prior, blank.network, context.timezone, start, context
        )
        later = np.s_[:, split:]
        central = tuple(
            fit_central(_sample(odds[later][..., m]))
            for odds in (reading.marginal, reading.joint)
            for m in range(len(specs))
        )
        advance(1)
        known = history.present & history.mask.any(-1)
        marginal, joint, _ = shocks(reading.marginal, reading.joint, central, known)
        usual, deviation = _windows(blank, history, marginal, joint, known, start, split)
        tails = _tails(deviation, known[later])
        advance(1)
        evidence = _cross_fitted(deviation, known[later], blank.lengths)
        final = fit_tail(_sample(np.where(known[later], evidence, np.nan)))
        level = _level(settings, history, evidence, known[later])
        advance(1)
    summary = Summary(
        history.grid.start, history.grid.end, len(history.users), seed, trained.validation_loss,
        trained.twin_loss, _error_on_fresh(reading.marginal[later], known[later]), trained.steps,
        trained.stopped,
    )  # fmt: skip
    return replace(
        blank,
        central=central,
        usual=usual,
        tails=tails,
        final=final,
        level=max(level, float(final.scores[0]) + 1e-3),
        summary=summary,
    )


def _error_on_fresh(odds: NDArray[np.float32], known: NDArray[np.bool_]) -> float:
    """The calibration error of maps fitted to the first half of later history, on its second half."""
    half = odds.shape[1] // 2
    found = []
    for metric in range(odds.shape[-1]):
        central = fit_central(_sample(odds[:, :half, metric]))
        fresh = odds[:, half:, metric][known[:, half:]]
        tail = ndtr(-central(fresh[np.isfinite(fresh)]).astype(np.float64))
        found.append(-np.log10(np.maximum(tail, LEAST_TAIL)))
    return calibration_error(np.concatenate(found).astype(np.float32))


def _blank(
    history: Panel, specs: tuple[MetricSpec, ...], context: CalendarContext, ready: _Ready,
    spec: NetworkSpec, trained: Trained, settings: Settings, seed: int,
) -> Model:  # fmt: skip
    """The model before calibration: what reading needs is there, the rest is empty."""
    nothing = TailMap(np.array([0, 1], np.float32), np.zeros(2, np.float32))
    empty = np.zeros((0, 0), np.float32)
    centres, scale = cohorts.fit(ready.state, ready.prior, settings.cohorts.count, seed)
    return Model(
        history.metrics, specs, history.grid.step, context.timezone, ready.horizon, spec, ready.links,
        ready.prior, (), scan.Usual(empty, empty), (), nothing, 0.0, centres, scale, trained.onnx,
        Summary(0, 0, 0, seed, 0.0, 0.0, 0.0, 0, ""),
    )  # fmt: skip


def shocks(
    marginal: NDArray[np.float32],
    joint: NDArray[np.float32],
    central: Sequence[CentralMap],
    known: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Calibrated deviations with what happened to everyone taken off, and that (steps, 2 metrics)."""
    metrics = marginal.shape[-1]
    alone = surprise.deviations(marginal, central[:metrics])
    chained = surprise.deviations(joint, central[metrics:])
    common = np.concatenate(
        [surprise.common_shock(alone, known), surprise.common_shock(chained, known)], axis=-1
    )
    return take_off(alone, common[:, :metrics]), take_off(chained, common[:, metrics:]), common


def take_off(deviation: NDArray[np.float32], common: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deviations less the common shock (steps, metrics); what is unknown stays 0."""
    return np.where(deviation != 0, deviation - common, 0).astype(np.float32)


def _windows(
    model: Model, history: Panel, marginal: NDArray[np.float32], joint: NDArray[np.float32],
    known: NDArray[np.bool_], start: States, split: int,
) -> tuple[scan.Usual, NDArray[np.float32]]:  # fmt: skip
    """Everybody's usual window sums on earlier history, and on later history each sum's deviation
    from the user's own: (users, later steps, channels, lengths).
    """
    channels, lengths = model.channels, model.lengths
    chunks = chunks_of(history.grid, model.timezone)
    shape = (len(channels), len(lengths))
    flat = scan.Usual(np.zeros(shape, np.float32), np.ones(shape, np.float32))
    stride = max(1, int(known.size * shape[0] * shape[1] / (40 * SAMPLE)))
    first_pass = [
        chunk.sums[:, ::stride][known[:, chunk.first : chunk.last : stride]]
        for chunk in chunk_deviations(
            marginal, joint, known, chunks, history.grid.step, start, channels, lengths, flat
        )
        if chunk.first < split
    ]
    usual = scan.Usual.fit(np.concatenate(first_pass))
    parts = [
        chunk.deviation[:, max(0, split - chunk.first) :]
        for chunk in chunk_deviations(
            marginal, joint, known, chunks, history.grid.step, start, channels, lengths, usual
        )
        if chunk.last > split
    ]
    return usual, np.concatenate(parts, axis=1)


def _tails(
    deviation: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[tuple[TailMap, ...], ...]:
    """A tail for each channel and length."""
    fresh = deviation[known]
    return tuple(
        tuple(fit_tail(_sample(fresh[:, channel, length])) for length in range(fresh.shape[2]))
        for channel in range(fresh.shape[1])
    )


def _cross_fitted(
    deviation: NDArray[np.float32], known: NDArray[np.bool_], lengths: Sequence[int]
) -> NDArray[np.float32]:
    """Evidence of later history, (users, steps), each part judged by tails fitted to the others.

    A tail never exceeds the sample it was fitted to as fresh data will; where the threshold is set,
    history must look as surprising as the months to come (cross-fitting, Stone 1974). Parts are
    groups of users, or stretches of time where users are few.
    """
    users, steps = known.shape
    if users >= 2 * FOLDS:
        fold = np.broadcast_to((np.arange(users) % FOLDS)[:, None], known.shape)
    else:
        fold = np.broadcast_to(np.arange(steps) * FOLDS // steps, known.shape)
    surprise = np.zeros((*known.shape, len(lengths)), dtype=np.float32)
    for part in range(FOLDS):
        inside = fold == part
        tails = _tails(deviation, known & ~inside)
        rows, columns = np.ix_(inside.any(1), inside.any(0))
        surprise[rows, columns] = scan.best_channel(deviation[rows, columns], tails).surprise
    surprise[~known] = 0
    return scan.covered(surprise, lengths)


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most SAMPLE values, evenly spread."""
    flat = values.ravel()
    flat = flat[np.isfinite(flat)]
    return flat[:: max(1, len(flat) // SAMPLE)]


def _level(
    settings: Settings, history: Panel, later: NDArray[np.float32], seen: NDArray[np.bool_]
) -> float:  # fmt: skip
    """The evidence at which flags begin, from the highest of each user and block of later history.

    Args: later: (users, steps) evidence; seen: where it is of a user who was present.
    """
    kind = settings.threshold.kind or ("budget" if len(history.users) >= FEW_USERS else "tail")
    steps = later.shape[1]
    per_day = max(1, DAY_SECONDS // history.grid.step)
    week = 7 * per_day
    block = week if kind == "budget" and steps >= 2 * week else max(1, min(per_day, steps // 8))
    blocks = [
        np.where(seen[:, at : at + block].any(1), later[:, at : at + block].max(1), np.nan)
        for at in range(0, steps - block + 1, block)
    ]
    maxima = np.concatenate(blocks)
    maxima = maxima[np.isfinite(maxima)]
    if kind == "budget":
        days = block * history.grid.step / DAY_SECONDS
        chance = settings.threshold.false_flags_per_1000_user_months / 1000 * days / MONTH_DAYS
    else:
        chance = settings.threshold.tail * block / TAIL_UNIT
    return budget.level_for(maxima, chance)
