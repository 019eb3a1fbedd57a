"""fit: history in, model out. Learns the twin's prior, the network, calibration and the threshold.

History is cut in time: the network trains on the earlier part; how surprising things usually are is
measured on the later part, which training did not see.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly import cohorts, features, scan, surprise, twin
from anomaly.calendar import (
    CalendarContext,
    LocalCalendar,
    local_calendar,
    slot_count,
    slots_per_day,
)
from anomaly.calibration import CentralMap, TailMap, fit_central, fit_tail
from anomaly.calibration_report import on_fresh
from anomaly.exceptions import DataError
from anomaly.likelihoods.choice import choose
from anomaly.likelihoods.forecast import Families
from anomaly.likelihoods.links import Links
from anomaly.model import Model, Summary
from anomaly.months import parse_duration
from anomaly.networks.spec import NetworkSpec, refuse_unserved
from anomaly.networks.training import Trained, TrainingData, train
from anomaly.panel import DAY_SECONDS, evenly
from anomaly.progress import SILENT
from anomaly.reading import days_of, later_from, log_likelihood, read, twin_days
from anomaly.scanning import chunk_deviations, chunks_of
from anomaly.shapes import Yardstick, cross_fitted, joined_evidence
from anomaly.states import States
from anomaly.thresholds.choice import FEW_USERS, Boundary
from anomaly.thresholds.choice import choose as choose_boundary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.calibration_report import Calibration
    from anomaly.metrics import MetricSpec
    from anomaly.panel import Panel
    from anomaly.progress import Progress
    from anomaly.reading import Reading
    from anomaly.scanning import Chunk
    from anomaly.settings import ModelSettings, ScanSettings, Settings
    from anomaly.twin import TwinPrior, TwinState

LEAST_STEPS = 48  # a history shorter than this says nothing
MOST_CELLS = 12_000_000  # users x steps x metrics held while training; more users are not needed
MOST_BATCH = 128
SAMPLE = 200_000  # values that a tail is fitted to
FOLDS = 4  # parts of later history for cross-fitting


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
    _refuse_short(history)
    history = _bounded(history)
    ordered = tuple(specs[metric] for metric in history.metrics)
    split = later_from(history.grid, calendar.timezone)
    ready = _prepare(history, ordered, calendar, settings, split, progress)
    spec = NetworkSpec.of(
        settings.model, len(ordered), history.grid.step, _batch_size(len(history.users))
    )
    trained = _trained(ready.data, spec, settings.model, seed, progress)
    return _calibrated(
        history, ordered, calendar, settings, seed, ready, spec, trained, split, progress
    )


def _trained(
    data: TrainingData, spec: NetworkSpec, model: ModelSettings, seed: int, progress: Progress
) -> Trained:
    """The network, or nothing where the twin is to speak for itself."""
    if spec.cell == "none":
        return Trained(b"", None, None, 0, "no network: the twin alone")
    with progress.track("training", model.steps) as advance:
        return train(data, spec, model, seed, advance)


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
    return history.take(evenly(len(history.users), most))


def _batch_size(users: int) -> int:
    size = 1
    while size < min(users, MOST_BATCH):
        size *= 2
    return size


@dataclass(frozen=True, slots=True)
class _Ready:
    links: Links
    prior: TwinPrior
    state: TwinState
    horizon: int
    slot: NDArray[np.int16]
    data: TrainingData
    held_out: dict[str, dict[str, float]]


def _prepare(
    history: Panel, specs: Sequence[MetricSpec], context: CalendarContext, settings: Settings,
    split: int, progress: Progress,
) -> _Ready:  # fmt: skip
    """Run the twin over history and lay out what the network trains on."""
    links = Links.fit(specs, history.values, history.mask & history.present[..., None])
    seen = features.observe(history, links)
    calendar = local_calendar(history.users, history.grid, context)
    usual = Families.usual([spec.kind for spec in specs])
    prior = _prior(seen, calendar, links, history.grid.step, split, usual)
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
    forecast = twin.TwinForecast(said[0], said[1], said[2], usual)
    chosen = choose(specs, links, forecast, seen, split)
    prior = replace(prior, families=chosen.families)
    forecast = replace(forecast, families=chosen.families)
    data = TrainingData.of(
        inputs, shown[:, horizon:], features.censored(seen, links), forecast, split, days
    )
    return _Ready(links, prior, state, horizon, calendar.slot, data, chosen.held_out)


def horizon_steps(model: ModelSettings, step: int) -> int:
    """How many steps lie between what the network has read and what it forecasts."""
    if model.horizon == "auto":
        return 1
    return max(1, round(parse_duration(model.horizon).total_seconds() / step))


def _prior(
    seen: features.Observed,
    calendar: LocalCalendar,
    links: Links,
    step: int,
    split: int,
    usual: Families,
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
        usual,
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
            _central(odds[later][..., m])
            for odds in (reading.marginal(), reading.joint)
            for m in range(len(specs))
        )
        advance(1)
        known = history.present & history.mask.any(-1)
        joint = surprise.deviations(reading.joint, central[len(specs) :])
        if blank.looking.common_shock:
            joint = surprise.take_off(joint, surprise.common_shock(joint, known))
        usual, looks = _windows(blank, history, joint, known, start, split)
        tails = _tails(looks, known[later])
        advance(1)
        evidence = _cross_fitted(looks, known[later], blank)
        boundary = choose_boundary(settings.threshold, evidence, known[later], history.grid.step)
        if blank.looking.courses:
            evidence, boundary = _with_courses(
                blank, history, known, split, evidence, boundary, settings
            )
        final = fit_tail(_sample(np.where(known[later], evidence, np.nan)))
        advance(1)
    calibration = _calibration_on_fresh(reading, known, split, blank, ready, history)
    own, twins = _likelihoods(reading, history, ready.links, split)
    summary = Summary(
        history.grid.start, history.grid.end, len(history.users), seed,
        -twins if trained.validation_loss is None else trained.validation_loss,
        -twins if trained.twin_loss is None else trained.twin_loss, calibration.error, trained.steps,
        trained.stopped, ready.held_out, None if spec.objective == "reconstruct" else own, twins,
    )  # fmt: skip
    return replace(
        blank,
        central=central,
        usual=usual,
        tails=tails,
        final=final,
        level=max(boundary.level, float(final.scores[0]) + 1e-3),
        prune=boundary.prune,
        calibration=calibration,
        summary=summary,
    )


def _with_courses(
    model: Model, history: Panel, known: NDArray[np.bool_], split: int, deviations: NDArray[np.float32],
    alone: Boundary, settings: Settings,
) -> tuple[NDArray[np.float32], Boundary]:  # fmt: skip
    """Evidence of later history joined with that of courses, and where flags begin.

    Deviations are held apart on later history alone, courses on all of it: the level joins what each
    reaches on its own stretch as evidence joins the two.
    """
    metrics = len(model.metrics)
    course = model.yardstick.course(history.values, history.mask & known[..., None])
    found, judged = cross_fitted(course)
    found[~known] = 0
    long = choose_boundary(settings.threshold, found, known, history.grid.step)
    apart, together = (np.full((len(judged), 1), at.level, np.float32) for at in (alone, long))
    level = float(joined_evidence(apart, together, judged, metrics).max())
    joined = joined_evidence(deviations, found[:, split:], judged, metrics)
    return joined, replace(alone, level=level)


def _likelihoods(reading: Reading, history: Panel, links: Links, split: int) -> tuple[float, float]:
    """Mean log-likelihood of known later values, nats: under the forecast, and under the twin's."""
    later, at = history.between(split, len(history.grid)), np.s_[:, split:]
    return (
        log_likelihood(reading.forecast(at), later, links),
        log_likelihood(reading.twin(at), later, links),
    )


def _calibration_on_fresh(
    reading: Reading, known: NDArray[np.bool_], split: int, blank: Model, ready: _Ready,
    history: Panel,
) -> Calibration:  # fmt: skip
    """How true tails are on the second half of later history, by maps fitted to the first half."""
    cohort = cohorts.assign(ready.state, ready.prior, blank.centres, blank.centre_scale)
    hour = None
    if history.grid.step < DAY_SECONDS:
        per_day = slots_per_day(history.grid.step)
        hour = ready.slot[:, split:] % per_day * 24 // per_day
    later = history.between(split, len(history.grid))
    odds = surprise.randomised(
        features.observe(later, ready.links),
        reading.forecast(np.s_[:, split:]),
        blank.summary.seed,
    )
    return on_fresh(
        odds,
        known[:, split:],
        _central,
        history.metrics,
        [cohorts.name_of(int(number)) for number in cohort],
        hour,
    )


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
        Summary(0, 0, 0, seed, 0.0, 0.0, 0.0, 0, ""), looking=_looking(settings.scan, len(history.users)),
        yardstick=_yardstick(history, settings.scan),
    )  # fmt: skip


def _looking(chosen: ScanSettings, users: int) -> scan.Looking:
    courses = users < FEW_USERS if chosen.courses is None else chosen.courses
    return scan.Looking(
        chosen.windows, chosen.own_history, chosen.common_shock, chosen.combine, courses
    )


def _yardstick(history: Panel, chosen: ScanSettings) -> Yardstick:
    if not _looking(chosen, len(history.users)).courses:
        return Yardstick.none()
    return Yardstick.fit(history.values, history.mask & history.present[..., None])


def _windows(
    model: Model, history: Panel, joint: NDArray[np.float32], known: NDArray[np.bool_],
    start: States, split: int,
) -> tuple[scan.Usual, NDArray[np.float32]]:  # fmt: skip
    """Everybody's usual window sums on earlier history, and what later history looks like against
    each user's own: (users, later steps, VIEWS, lengths).
    """
    directions, lengths = model.directions, model.lengths
    chunks = chunks_of(history.grid, model.timezone)
    shape = (1 + len(directions), len(lengths))
    flat = scan.Usual(np.zeros(shape, np.float32), np.ones(shape, np.float32))
    stride = max(1, int(known.size * shape[0] * shape[1] / (40 * SAMPLE)))

    def against(usual: scan.Usual) -> Iterator[Chunk]:
        return chunk_deviations(
            joint, known, chunks, history.grid.step, start, directions, lengths, usual,
            model.looking.own_history,
        )  # fmt: skip

    first_pass = [
        chunk.sums[:, ::stride][known[:, chunk.first : chunk.last : stride]]
        for chunk in against(flat)
        if chunk.first < split
    ]
    usual = scan.Usual.fit(np.concatenate(first_pass))
    parts = [
        scan.ways(chunk.deviation[:, max(0, split - chunk.first) :], directions)
        for chunk in against(usual)
        if chunk.last > split
    ]
    return usual, np.concatenate(parts, axis=1)


def _tails(looks: NDArray[np.float32], known: NDArray[np.bool_]) -> tuple[tuple[TailMap, ...], ...]:
    """A tail for each way of looking and length."""
    fresh = looks[known]
    return tuple(
        tuple(fit_tail(_sample(fresh[:, view, length])) for length in range(fresh.shape[2]))
        for view in range(fresh.shape[1])
    )


def _cross_fitted(
    looks: NDArray[np.float32],
    known: NDArray[np.bool_],
    model: Model,
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
    surprise = np.zeros(looks.shape, dtype=np.float32)
    for part in range(FOLDS):
        inside = fold == part
        tails = _tails(looks, known & ~inside)
        at = np.ix_(inside.any(1), inside.any(0))
        surprise[at] = scan.surprises(looks[at], tails)
    surprise[~known] = 0
    return scan.evidence(surprise, model.lengths, model.step, model.looking.combine)


def _central(odds: NDArray[np.float32]) -> CentralMap:
    """A map fitted to a sample."""
    return fit_central(_sample(odds))


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most SAMPLE values, evenly spread."""
    flat = values.ravel()
    flat = flat[np.isfinite(flat)]
    return flat[:: max(1, len(flat) // SAMPLE)]
