"""The core in five verbs: fit a model, replay history into states, make a reference, score, examine.

    fit        history panel -> Model
    replay     history panel, states -> states          what is known of each user
    reference  panel of a fixed sample -> Reference     what happened to everyone
    score      month panel, states, reference -> Scored flags, scores, users' months, states
    examine    a trial -> Showing                       what one model makes of a month

No I/O, no clock. A month is read in one pass, each day from the days before it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from anomaly import cohorts, explain, scan, units
from anomaly import flags as flagging
from anomaly.exceptions import DataError, ShapeError
from anomaly.fitting import fit
from anomaly.model import Model
from anomaly.months import month_of
from anomaly.panel import awake
from anomaly.peers import Company, Peering
from anomaly.progress import SILENT
from anomaly.reading import Reading, log_likelihood, read_with
from anomaly.records import Band, Flag, UserMonth, steps_around
from anomaly.reference import Reference
from anomaly.scanning import scan_panel
from anomaly.states import States
from anomaly.surprise import common_shock, deviations, take_off
from anomaly.telling import LEAST_P, Telling, alone_deviations
from anomaly.trial import Showing, found_among

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from anomaly.calendar import CalendarContext
    from anomaly.panel import Panel
    from anomaly.progress import Progress
    from anomaly.trial import Trial

__all__ = [
    "Model",
    "Reference",
    "Scored",
    "States",
    "examine",
    "fit",
    "reference",
    "replay",
    "score",
]

BELOW = np.float32(0.999)  # a step outside every flag stays below the boundary ...
CLOSE = np.float32(0.9)  # ... and from here on only comes closer to it
BY_HABIT = Peering()  # nobody was put into a group


@dataclass(frozen=True)
class Scored:
    """A month of some users. times (steps,) seconds UTC; scores, p_values (users, steps) float32;
    common (steps, metrics): the shock to each metric by itself; states: at the panel's end.
    """

    users: tuple[str, ...]
    times: NDArray[np.int64]
    present: NDArray[np.bool_]
    scores: NDArray[np.float32]
    p_values: NDArray[np.float32]
    flags: list[Flag]
    user_months: list[UserMonth]
    states: States
    panel: Panel
    reading: Reading
    model: Model
    common: NDArray[np.float32]
    company: Company

    def top_metric(self) -> NDArray[np.int16]:
        """The metric furthest from what was expected of it alone, (users, steps), by its position."""
        odd = alone_deviations(self.model, self.reading, self.common, np.s_[:], np.s_[:])
        return np.asarray(np.abs(odd).argmax(-1), dtype=np.int16)

    def band(self, flag: Flag) -> Band:
        """Observed against expected of a flag's first metric, in it and beside it, with its interval of
        95 % and what the peers did.
        """
        row, m = (
            self.users.index(flag.user_id),
            self.model.metrics.index(flag.metrics.split(";")[0]),
        )
        steps = steps_around(self.times, flag.start, flag.end)
        said, twin = (
            words((row, steps)).metric(m) for words in (self.reading.forecast, self.reading.twin)
        )
        known, links = self.panel.mask[row, steps, m], self.model.links.only(m)
        observed = np.where(known, self.panel.values[row, steps, m], np.nan)
        own = float(self.panel.values[row, self.panel.mask[row, :, m], m].max(initial=0.0))
        most = explain.most(twin, links, max(float(self.company.highest[m]), own))
        expected, lower, upper = (
            links.inverse(np.minimum(said.quantile(q), most))[:, 0].astype(np.float32)
            for q in (0.5, *explain.INTERVAL)
        )
        drawn = self.company.lines.get(self.user_months[row].cohort)
        peers = None if drawn is None else (drawn[0, steps, m], drawn[1, steps, m])
        return Band(self.times[steps], observed.astype(np.float32), expected, lower, upper, peers)


def replay(
    model: Model, panel: Panel, states: States, reference: Reference, calendar: CalendarContext,
    progress: Progress = SILENT,
) -> States:  # fmt: skip
    """Let states live through a stretch of history, month by month.

    Args: reference: covers the panel's steps.
    """
    _check(model, panel, states)
    panel = units.masked(panel, reference.changes)
    with progress.track("replaying history", len(panel.grid)) as advance:
        for first, last in months_of(model, panel):
            _, _, states = _scan(model, panel.between(first, last), states, calendar, reference)
            advance(last - first)
    return states


def reference(
    model: Model,
    panel: Panel,
    states: States,
    calendar: CalendarContext,
    progress: Progress = SILENT,
    peering: Peering = BY_HABIT,
    *,
    lines: bool = False,
) -> Reference:
    """Read a sample of users as a reference for all: its common shock, evidence and peer groups. Who was
    not there is read too, and nobody is compared with.

    Args: peering: who was put into which group. lines: whether to keep what groups did, for plots.
    """
    _check(model, panel, states)
    there = np.flatnonzero(awake(panel).any(1))
    company = Company.of(model, panel.take(there), states.take(there), peering, lines=lines)
    common, evidence = [], []
    changes: list[units.UnitChange] = []
    with progress.track("reading the reference", len(panel.grid)) as advance:
        for first, last in months_of(model, panel):
            part = panel.between(first, last)
            now = units.changes(part, model.links, model.prior, states.twin, model.timezone)
            changes += now
            part = units.masked(part, now)
            found, shock, states = _scan(model, part, states, calendar, None)
            common.append(shock)
            evidence.append(found)
            advance(last - first)
    return Reference(
        panel.grid.times,
        tuple(panel.users[row] for row in there),
        np.concatenate(common),
        np.concatenate(evidence, axis=1)[there],
        company,
        states,
        tuple(changes),
    )


def months_of(model: Model, panel: Panel) -> Iterator[tuple[int, int]]:
    """The panel's calendar months as (first, last) step indices, last exclusive."""
    first = 0
    while first < len(panel.grid):
        instant = dt.datetime.fromtimestamp(int(panel.grid.times[first]), tz=dt.UTC)
        end = month_of(instant, model.timezone).end(model.timezone)
        last = int(np.searchsorted(panel.grid.times, int(end.timestamp())))
        yield first, last
        first = last


def _check(model: Model, panel: Panel, states: States) -> None:
    if panel.metrics != model.metrics or panel.users != states.users:
        raise ShapeError(
            f"panel has metrics {panel.metrics[:5]} and {len(panel.users)} users, model has metrics "
            f"{model.metrics[:5]} and states {len(states.users)} users. Lay the panel out for this model."
        )
    if panel.grid.step != model.step:
        raise DataError(
            f"panel has steps of {panel.grid.step} s, model of {model.step} s. Use one grid, or train again."
        )


def _scan(
    model: Model, panel: Panel, states: States, calendar: CalendarContext, given: Reference | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], States]:
    """Read and scan at most a month: evidence, and the common shock that was taken off."""
    reading, after = read_with(model, panel, states, calendar)
    known, metrics = awake(panel), len(model.metrics)
    joint = deviations(reading.joint, model.central[metrics:])
    if given is None:
        alone = deviations(reading.marginal(), model.central[:metrics])
        common = np.concatenate([common_shock(alone, known), common_shock(joint, known)], axis=-1)
        common *= model.looking.common_shock
    else:
        common = _common(given, panel)
    joint = take_off(joint, common[:, metrics:])
    scanned = scan_panel(model, panel.grid, joint, known, _course(model, panel, known), after)
    return scanned.evidence, common, _settled(model, scanned.states)


def _course(model: Model, panel: Panel, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values by the model's yardstick, where courses are looked at."""
    if not model.looking.courses:
        return np.zeros((*known.shape, 0), np.float32)
    return model.yardstick.course(panel.values, panel.mask & known[..., None])


def _settled(model: Model, states: States) -> States:
    """Cohorts are drawn anew at the end of each month, from the habits known by then."""
    return replace(
        states, cohort=cohorts.assign(states.twin, model.prior, model.centres, model.centre_scale)
    )


def _common(given: Reference, panel: Panel) -> NDArray[np.float32]:
    """The reference's common shock at the panel's steps, (steps, 2 metrics)."""
    first = int(np.searchsorted(given.times, panel.grid.start))
    common = given.common[first : first + len(panel.grid)]
    if len(common) != len(panel.grid):
        raise ShapeError(
            "reference: it does not cover the panel's steps. Make it from the same stretch of time."
        )
    return common


def score(
    model: Model, panel: Panel, states: States, reference: Reference, month: str,
    calendar: CalendarContext, configuration: str, peering: Peering = BY_HABIT,
) -> Scored:  # fmt: skip
    """Score a month, or the part of it that is over.

    Args: panel: the month's steps; states: at the month's start; reference: of the same steps.
        configuration: hash of the settings that shape a result, part of each flag's id.
        peering: who was put into which peer group.
    """
    _check(model, panel, states)
    panel = units.masked(panel, reference.changes)
    reading, after = read_with(model, panel, states, calendar)
    known, metrics, common = awake(panel), len(model.metrics), _common(reference, panel)
    joint = take_off(deviations(reading.joint, model.central[metrics:]), common[:, metrics:])
    scanned = scan_panel(model, panel.grid, joint, known, _course(model, panel, known), after)
    evidence = scanned.evidence
    work = Telling(
        model=model, panel=panel, states=states, reference=reference, reading=reading,
        common=common[:, :metrics], joint=scan.heeded(joint, model.directions), evidence=evidence,
        by_course=scanned.by_course, known=known, month=month, configuration=configuration,
        peering=peering,
    )  # fmt: skip
    scores, p_values = _scores(model, evidence, known)
    flags: list[Flag] = []
    for row in range(len(panel.users)):
        chosen = flagging.select(
            evidence[row], model.level, partial(work.cores, row), partial(work.shows, row),
            model.prune, model.together,
        )  # fmt: skip
        for window in chosen:
            flags.append(work.flag(row, window))
            at = np.s_[row, window.first : window.last]
            scores[at] = np.round(evidence[at] / np.float32(model.level), 4)
            peak = window.first + int(evidence[at].argmax())
            scores[row, peak], p_values[row, peak] = work.judged(window.evidence)
    months = work.user_months(scores, p_values, flags)
    return Scored(
        panel.users, panel.grid.times, panel.present, scores, p_values, flags, months,
        _settled(model, scanned.states), panel, reading, model, common[:, :metrics],
        reference.company,
    )  # fmt: skip


def examine(model: Model, trial: Trial, calendar: CalendarContext) -> Showing:
    """Let a model learn a trial's users, then score their month as it was and with its incidents.

    Planted users are compared with what the month was for everyone before anything was planted.
    """
    before = trial.before
    past = reference(model, before, States.empty(model, before.users), calendar)
    now = reference(model, trial.month, past.states, calendar)
    month = str(month_of(trial.month.grid.start, model.timezone))
    real = score(model, trial.month, past.states, now, month, calendar, "trial")
    flags: list[Flag] = []
    if trial.planted:
        states = past.states.take([incident.user for incident in trial.planted])
        flags = score(model, trial.touched, states, now, month, calendar, "trial").flags
    planted, found = found_among(trial, real.flags, flags)
    forecasts = model.network_spec.objective != "reconstruct"
    said = real.reading.forecast()
    return Showing(
        model.version, model.network_spec.cell,
        log_likelihood(said, trial.month, model.links) if forecasts else None,
        planted, found, len(real.flags), sum(one.skipped is None for one in real.user_months),
    )  # fmt: skip


def _scores(
    model: Model, evidence: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores below the boundary, and p-values, of steps outside every flag.

    Where evidence reaches the level and yet no flag could be shown, or lies beside one, scores keep
    their order in the little room below the boundary.
    """
    surprise = model.final(evidence)
    score = np.where(known, evidence / np.float32(model.level), 0)
    over = np.maximum(score - CLOSE, 0)
    scores = np.where(score > CLOSE, CLOSE + (BELOW - CLOSE) * over / (1 + over), score)
    p_values = np.where(known, np.power(10.0, -surprise.astype(np.float64)), 1)
    return np.round(scores, 6).astype(np.float32), np.clip(p_values, LEAST_P, 1).astype(np.float32)
