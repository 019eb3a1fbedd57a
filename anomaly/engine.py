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
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from anomaly import cohorts, explain, scan, units
from anomaly import flags as flagging
from anomaly.exceptions import DataError, ShapeError
from anomaly.fitting import fit
from anomaly.model import Model
from anomaly.months import month_of
from anomaly.panel import DAY_SECONDS, awake
from anomaly.peers import EVERYONE, Company, Peering
from anomaly.progress import SILENT
from anomaly.reading import Reading, log_likelihood, read_with
from anomaly.records import Band, Flag, UserMonth, steps_around
from anomaly.risk import Risk, alone
from anomaly.scanning import scan_panel
from anomaly.states import BIN_WIDTH, HISTORY_BINS, States
from anomaly.surprise import common_shock, deviations, take_off
from anomaly.trial import Showing, found_among

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

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

LEAST_P = 1e-15
BELOW = np.float32(0.999)  # a step outside every flag stays below the boundary ...
CLOSE = np.float32(0.9)  # ... and from here on only comes closer to it
CONFIDENT_DAYS = 28.0  # of history, of a user as of the model: two thirds of what can be known
BY_HABIT = Peering()  # nobody was put into a group


@dataclass(frozen=True, slots=True)
class Reference:
    """What happened to everyone, from a fixed sample of users.

    times: (steps,) seconds UTC. common: (steps, 2 metrics) shock to take off. evidence: (users,
    steps) and company to compare with. states: of the sample, at the end. changes: of units; what is
    in another unit is unknown to everyone who is read with this reference.
    """

    times: NDArray[np.int64]
    users: tuple[str, ...]
    common: NDArray[np.float32]
    evidence: NDArray[np.float32]
    company: Company
    states: States
    changes: tuple[units.UnitChange, ...] = ()


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
        odd = _alone(self.model, self.reading, self.common, np.s_[:], np.s_[:])
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
            words.at((row, steps)).metric(m) for words in (self.reading.forecast, self.reading.twin)
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
    """Read a sample of users as a reference for all: its common shock, evidence and peer groups.

    Args: peering: who was put into which group. lines: whether to keep what groups did, for plots.
    """
    _check(model, panel, states)
    company = Company.of(model, panel, states, peering, lines=lines)
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
        panel.users,
        np.concatenate(common),
        np.concatenate(evidence, axis=1),
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
        alone = deviations(reading.marginal, model.central[:metrics])
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
    work = _Month(
        model,
        panel,
        states,
        reference,
        reading,
        common[:, :metrics],
        scan.heeded(joint, model.directions),
        evidence,
        scanned.by_course,
        known,
        month,
        configuration,
        peering,
    )
    scores, p_values = _scores(model, evidence, known)
    flags: list[Flag] = []
    for row in range(len(panel.users)):
        chosen = flagging.select(
            evidence[row], model.level, partial(work.narrowed, row), partial(work.shows, row),
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
    said = real.reading.forecast
    return Showing(
        model.version, model.network_spec.cell,
        log_likelihood(said, trial.month, model.links) if forecasts else None,
        planted, found, len(real.flags), sum(one.skipped is None for one in real.user_months),
    )  # fmt: skip


def _alone(
    model: Model, reading: Reading, common: NDArray[np.float32], users: Any, steps: Any
) -> NDArray[np.float32]:
    """Deviations of each metric by itself, of some users and steps, common shock taken off."""
    odds = reading.marginal_at((users, steps))
    return take_off(deviations(odds, model.central[: len(model.metrics)]), common[steps])


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


@dataclass(frozen=True)
class _Month:
    """A scored month at hand, to tell of its flags and users."""

    model: Model
    panel: Panel
    states: States
    reference: Reference
    reading: Reading
    common: NDArray[np.float32]
    joint: NDArray[np.float32]
    evidence: NDArray[np.float32]
    by_course: NDArray[np.float32]
    known: NDArray[np.bool_]
    month: str
    configuration: str
    peering: Peering
    stories: dict[tuple[int, int, int], explain.Story] = field(default_factory=dict)
    members: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def judged(self, evidence: float) -> tuple[float, float]:
        """Score (at least 1: evidence over the level at which flags begin) and p-value of a window."""
        surprise = float(self.model.final(np.array(evidence, dtype=np.float32)))
        return max(round(evidence / self.model.level, 4), 1.0), max(10.0**-surprise, LEAST_P)

    def _size(self, row: int, metric: int, window: flagging.Window) -> explain.Size:
        at = np.s_[row, window.first : window.last]
        part = self.reading.twin.at(at)
        seed = zlib.crc32(
            f"{self.panel.users[row]}\0{self.panel.grid.times[window.first]}".encode(
                "utf-8", "replace"
            )
        )
        return explain.size_of(
            metric, self.model.specs[metric], self.panel.values[at], self.panel.mask[at], part,
            self.model.links, seed, float(self.reference.company.highest[metric]),
        )  # fmt: skip

    def story(self, row: int, window: flagging.Window) -> explain.Story:
        """What the window is about, told by the metric that departs most visibly."""
        key = row, window.first, window.last
        if key not in self.stories:
            self.stories[key] = self._told(row, window)
        return self.stories[key]

    def _told(self, row: int, window: flagging.Window) -> explain.Story:
        at = np.s_[row, window.first : window.last]
        named = explain.blame(self.joint[at])
        sizes = {metric: self._size(row, metric, window) for metric in named}
        named, direction = explain.visible_first(named, sizes), explain.direction_of(named, sizes)
        first = named[0]
        rate = 1 / (1 + np.exp(-self.reading.twin.active_logit[at][:, first].astype(np.float64)))
        together = len(named) > 1 and explain.usual_alone(
            _alone(self.model, self.reading, self.common, *at)
        )
        kind = explain.kind_of(
            direction, together, sizes[first], rate, bool(self.model.links.hurdle[first]),
            float(self.states.twin.active[row, :, first].sum()), float(self.states.twin.days[row]),
            self.model.step,
        )  # fmt: skip
        if self.led_by_course(row, window) and explain.departure(sizes[first]) == 0:
            return explain.Story(named, direction, "shift", sizes[first], by_course=True)
        return explain.Story(named, direction, kind, sizes[first])

    def led_by_course(self, row: int, window: flagging.Window) -> bool:
        """Whether the window is odd for its course more than for its deviations from the forecast."""
        at = np.s_[row, window.first : window.last]
        return float(self.by_course[at].max()) > float(self.evidence[at].max())

    def narrowed(self, row: int, window: flagging.Window) -> flagging.Window:
        """Only the steps that made the window odd; a course is odd as a whole."""
        if self.led_by_course(row, window):
            return window
        return flagging.narrowed(
            window, explain.shares(self.joint[row, window.first : window.last])
        )

    def shows(self, row: int, window: flagging.Window) -> bool:
        """Whether the flag's own numbers show a departure, and one that reaches the smallest effect
        worth a flag: what cannot be shown to an analyst is no flag. A course is shown by its plot.
        """
        story = self.story(row, window)
        spec = self.model.specs[story.metrics[0]]
        effect = abs(story.size.observed - story.size.expected)
        side = explain.departure(story.size)
        heeded = spec.direction == "both" or side == (1 if spec.direction == "up" else -1)
        shown = side != 0 or self.led_by_course(row, window)
        return effect >= spec.minimum and shown and heeded

    def flag(self, row: int, window: flagging.Window) -> Flag:
        """The window as a record."""
        story = self.story(row, window)
        times = self.panel.grid.times
        start = dt.datetime.fromtimestamp(int(times[window.first]), tz=dt.UTC)
        last = int(times[window.last]) if window.last < len(times) else self.panel.grid.end
        end = dt.datetime.fromtimestamp(last, tz=dt.UTC)
        continues = window.last == len(times)
        score, p_value = self.judged(window.evidence)
        peers = self._peers(row)
        compared = self.compared(row, peers, window.first, window.last, window.evidence)
        user = self.panel.users[row]
        metrics = ";".join(self.model.metrics[m] for m in story.metrics)
        return Flag(
            flag_id=explain.flag_id(user, start, metrics, self.month, self.configuration),
            user_id=user, start=start, end=end, severity=explain.severity_of(score), score=score,
            p_value=explain.rounded(p_value), kind=story.kind, direction=story.direction, metrics=metrics,
            observed=story.size.observed, expected=story.size.expected, lower=story.size.lower,
            upper=story.size.upper,
            explanation=explain.sentence(
                user, story, self.model.specs, start, end, self.model.timezone, compared,
                peers.name, continues,
            ),
            self_percentile=compared.self_percentile, peer_percentile=compared.peer_percentile,
            all_percentile=compared.all_percentile, peer_count=compared.peer_count, continues=continues,
        )  # fmt: skip

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where the reference's users stand in it."""
        return {user: place for place, user in enumerate(self.reference.users)}

    @cached_property
    def _highest(self) -> NDArray[np.float32]:
        """The highest evidence of each of the reference's users in the month."""
        evidence = self.reference.evidence[:, : len(self.panel.grid)]
        return np.asarray(evidence.max(1, initial=0.0), dtype=np.float32)

    def _others(self, row: int) -> NDArray[np.bool_]:
        """Who of the reference is somebody else."""
        others = np.ones(len(self.reference.users), dtype=bool)
        place = self._places.get(self.panel.users[row])
        if place is not None:
            others[place] = False
        return others

    def _peers(self, row: int) -> _Peers:
        """The user's peer group, and who of the reference is in it."""
        user, others = self.panel.users[row], self._others(row)
        cohort = int(self.states.cohort[row])
        wanted = self.peering.name(user, cohort)
        mates = others & self._members(wanted)
        if wanted == EVERYONE:
            days = float(self.states.twin.days[row])
            new = len(self.model.centres) and days < cohorts.LEAST_DAYS
            why = "too little is known of this user's habits" if new else "there are no groups"
            return _Peers(EVERYONE, others, why)
        if mates.sum() < self.peering.least - 1:
            why = f"{wanted} has fewer than {self.peering.least} members here"
            return _Peers(EVERYONE, others, why)
        placed = self.peering.placed.get(user)
        return _Peers(
            wanted, mates, placed.why if placed else f"habits: {self._cohorts_told[cohort]}"
        )

    def _members(self, group: str) -> NDArray[np.bool_]:
        """Who of the reference is in a group."""
        if group not in self.members:
            self.members[group] = self.reference.company.names == group
        return self.members[group]

    @cached_property
    def _cohorts_told(self) -> list[str]:
        """What sets each cohort that was found apart from everyone."""
        by_hour = self.model.step < DAY_SECONDS
        return [cohorts.told(one, self.model.metrics, by_hour) for one in self.model.centres]

    @cached_property
    def _habits(self) -> NDArray[np.float32]:
        """The habits of the panel's users when the month begins."""
        return cohorts.habits(self.states.twin, self.model.prior, self.model.centre_scale)

    def compared(
        self, row: int, peers: _Peers, first: int, last: int, evidence: float
    ) -> explain.Compared:
        """The evidence among own past, peers and everyone in the same hours."""
        past = self.states.past[row].astype(np.float64)
        bin_of, lived = min(int(evidence / BIN_WIDTH), HISTORY_BINS - 1), past.sum()
        own = 100 * past[:bin_of].sum() / lived if lived else 50.0
        whole = (first, last) == (0, len(self.panel.grid))
        highest = (
            self._highest if whole else self.reference.evidence[:, first:last].max(1, initial=0.0)
        )
        return explain.Compared(
            bool(lived),
            round(float(own), 2),
            _percentile(highest[peers.mates], evidence),
            _percentile(highest[self._others(row)], evidence),
            int(peers.mates.sum()),
        )

    def user_months(
        self, scores: NDArray[np.float32], p_values: NDArray[np.float32], flags: Sequence[Flag]
    ) -> list[UserMonth]:
        """How far each user's month was from normal."""
        own: dict[str, list[Flag]] = {user: [] for user in self.panel.users}
        for flag in flags:
            own[flag.user_id].append(flag)
        present = self.panel.present
        return [
            self.user_month(row, scores[row], p_values[row], own[user], present[row])
            for row, user in enumerate(self.panel.users)
        ]

    def user_month(
        self,
        row: int,
        scores: NDArray[np.float32],
        p_values: NDArray[np.float32],
        own: Sequence[Flag],
        present: NDArray[np.bool_],
    ) -> UserMonth:
        """How far the user's month was from normal. own: its flags."""
        user, peers = self.panel.users[row], self._peers(row)
        if not self.known[row].any():
            return UserMonth(
                user, peers.name, 0.0, 1.0, 0, None, "", 50.0, 50.0, 50.0, int(peers.mates.sum()),
                0.0, "no_rows", cohort_why=peers.why,
            )  # fmt: skip
        worst = int(scores.argmax())
        evidence = float(self.evidence[row].max())
        compared = self.compared(row, peers, 0, len(scores), evidence)
        driving = [metric for flag in own for metric in flag.metrics.split(";")]
        if not own:
            driving = [
                self.model.metrics[m] for m in explain.blame(self.joint[row, worst : worst + 1])
            ]
        p_value = explain.rounded(float(p_values[worst]))
        # Of what its flags show, so that risk and rank agree.
        shown = float(scores[worst]) * self.model.level
        risk = alone(p_value, int(present.sum())) if self._risk is None else self._risk.of(shown)
        return UserMonth(
            user, peers.name, explain.rounded(float(scores[worst])), p_value, len(own),
            dt.datetime.fromtimestamp(int(self.panel.grid.times[worst]), tz=dt.UTC),
            ";".join(dict.fromkeys(driving)),
            compared.self_percentile, compared.peer_percentile, compared.all_percentile, compared.peer_count,
            self._confidence[row], risk=round(risk, 4),
            cohort_distance=self.reference.company.distance(peers.name, self._habits[row]),
            cohort_why=peers.why,
        )  # fmt: skip

    @cached_property
    def _risk(self) -> Risk | None:
        """What a month's highest evidence means among those of the reference's users."""
        seen = self._highest[self._highest > 0]
        return Risk.among(seen)

    @cached_property
    def _confidence(self) -> list[float]:
        """0 to 1 for each user: of the values that could be known the share that is, lowered where the
        user's history is short, and where that is which the model learnt from.
        """
        present, mask, twin = self.panel.present, self.panel.mask, self.states.twin
        usual = (twin.seen.sum(1) > 0) | mask.any(1)  # metrics that the user has
        known = ((mask & present[..., None]).sum(1) * usual).sum(1)
        share = known / np.maximum(present.sum(1) * usual.sum(1), 1)
        learnt = (self.model.summary.trained_to - self.model.summary.trained_from) / DAY_SECONDS
        enough = (1 - np.exp(-twin.days / CONFIDENT_DAYS)) * (1 - np.exp(-learnt / CONFIDENT_DAYS))
        return [round(float(one), 3) for one in share * enough]


@dataclass(frozen=True, slots=True)
class _Peers:
    """A user's peer group: its name, who of the reference is in it, and why it is this one."""

    name: str
    mates: NDArray[np.bool_]
    why: str


def _percentile(others: NDArray[np.float32], evidence: float) -> float:
    """The share of others below, 0 to 100; 50 where there are none."""
    return round(100 * float(np.mean(others < evidence)), 2) if len(others) else 50.0
