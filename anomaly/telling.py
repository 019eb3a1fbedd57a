"""Tells of a scored month: each flag and each user's month as a record, every number in it a column."""

from __future__ import annotations

import datetime as dt
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from anomaly import cohorts, explain, shapes
from anomaly import flags as flagging
from anomaly.panel import DAY_SECONDS
from anomaly.peers import EVERYONE, Group
from anomaly.records import Flag, UserMonth
from anomaly.risk import Risk, alone
from anomaly.states import BIN_WIDTH, HISTORY_BINS
from anomaly.surprise import deviations, take_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from anomaly.model import Model
    from anomaly.panel import Panel
    from anomaly.peers import Peering
    from anomaly.reading import Reading
    from anomaly.reference import Reference
    from anomaly.states import States

LEAST_P = 1e-15
CONFIDENT_DAYS = 28.0  # of history, of a user as of the model: two thirds of what can be known


def alone_deviations(
    model: Model, reading: Reading, common: NDArray[np.float32], users: Any, steps: Any
) -> NDArray[np.float32]:
    """Deviations of each metric by itself, of some users and steps, common shock taken off."""
    odds = reading.marginal((users, steps))
    return take_off(deviations(odds, model.central[: len(model.metrics)]), common[steps])


@dataclass(frozen=True)
class Telling:
    """A scored month at hand. joint: heeded deviations of each metric given those before it, common shock
    taken off; by_course: what the course of values alone says; known: (users, steps), where a user was
    present and something known. states: at the month's start.
    """

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
    sizes: dict[tuple[int, int, int, int], explain.Size] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)

    def judged(self, evidence: float) -> tuple[float, float]:
        """Score (at least 1: evidence over the level at which flags begin) and p-value of a window."""
        surprise = float(self.model.final(np.array(evidence, dtype=np.float32)))
        return max(round(evidence / self.model.level, 4), 1.0), max(10.0**-surprise, LEAST_P)

    def _size(self, row: int, metric: int, window: flagging.Window) -> explain.Size:
        key = row, metric, window.first, window.last
        if key not in self.sizes:
            self.sizes[key] = self._simulated(row, metric, window)
        return self.sizes[key]

    def _simulated(self, row: int, metric: int, window: flagging.Window) -> explain.Size:
        at = np.s_[row, window.first : window.last]
        part = self.reading.twin(at)
        seed = zlib.crc32(
            f"{self.panel.users[row]}\0{self.panel.grid.times[window.first]}".encode(
                "utf-8", "replace"
            )
        )
        return explain.size_of(
            metric, self.model.specs[metric], self.panel.values[at], self.panel.mask[at], part,
            self.model.links, seed, float(self.reference.company.highest[metric]),
        )  # fmt: skip

    def _foremost(self, row: int, window: flagging.Window) -> int:
        """The metric that tells of the window: the first whose total shows a departure."""
        named = explain.blame(self.joint[row, window.first : window.last])
        odd = (one for one in named if explain.departure(self._size(row, one, window)) != 0)
        return next(odd, named[0])

    def story(self, row: int, window: flagging.Window) -> explain.Story:
        """What the window is about, told by the metric that departs most visibly."""
        at = np.s_[row, window.first : window.last]
        named = explain.blame(self.joint[at])
        sizes = {metric: self._size(row, metric, window) for metric in named}
        named, direction = explain.visible_first(named, sizes), explain.direction_of(named, sizes)
        first = named[0]
        rate = 1 / (1 + np.exp(-self.reading.said.active_logit[at][:, first].astype(np.float64)))
        together = len(named) > 1 and explain.usual_alone(
            alone_deviations(self.model, self.reading, self.common, *at)
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
        """Whether the course of values brings more to the window's highest evidence than deviations from
        the forecast do.
        """
        peak = window.first + int(self.evidence[row, window.first : window.last].argmax())
        by_course = shapes.weight_of(len(self.model.metrics)) * float(self.by_course[row, peak])
        return by_course > float(self.evidence[row, peak]) / 2

    def cores(self, row: int, window: flagging.Window) -> Iterable[flagging.Window]:
        """Only the steps that made the window odd; a course is odd as a whole."""
        if self.led_by_course(row, window):
            return [window]
        at = np.s_[row, window.first : window.last]
        return flagging.cores(window, explain.shares(self.joint[at], self.model.step))

    def shows(self, row: int, window: flagging.Window) -> bool:
        """Whether the flag's own numbers show a departure, and one that reaches the smallest effect
        worth a flag: what cannot be shown to an analyst is no flag. A course is shown by its plot.
        """
        metric = self._foremost(row, window)
        spec, size = self.model.specs[metric], self._size(row, metric, window)
        effect = abs(size.observed - size.expected)
        side = explain.departure(size)
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

    def _peers(self, row: int) -> _Peers:
        """The user's peer group, and how many of the reference are in it."""
        user, cohort = self.panel.users[row], int(self.states.cohort[row])
        own, wanted = self._places.get(user), self.peering.name(user, cohort)
        others, mates = (self._group(name).others(own) for name in (EVERYONE, wanted))
        if wanted == EVERYONE:
            days = float(self.states.twin.days[row])
            new = len(self.model.centres) and days < cohorts.LEAST_DAYS
            why = "too little is known of this user's habits" if new else "there are no groups"
            return _Peers(EVERYONE, others, why)
        if mates < self.peering.least - 1:
            why = f"{wanted} has fewer than {self.peering.least} members here"
            return _Peers(EVERYONE, others, why)
        placed = self.peering.placed.get(user)
        return _Peers(
            wanted, mates, placed.why if placed else f"habits: {self._cohorts_told[cohort]}"
        )

    def _group(self, name: str) -> Group:
        """Who of the reference is in a group; worked out once for all who are compared with it."""
        if name not in self.groups:
            names = self.reference.company.names
            members = np.full(len(names), fill_value=True) if name == EVERYONE else names == name
            self.groups[name] = Group.of(members, self._highest)
        return self.groups[name]

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
        place = self._places.get(self.panel.users[row])
        groups = self._group(peers.name), self._group(EVERYONE)
        if (first, last) == (0, len(self.panel.grid)):
            among = [group.standing(evidence, place) for group in groups]
        else:
            below = self.reference.evidence[:, first:last].max(1, initial=0.0) < evidence
            among = [group.percentile(below, place) for group in groups]
        peer, everyone = among
        return explain.Compared(bool(lived), round(float(own), 2), peer, everyone, peers.count)

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
                user, peers.name, 0.0, 1.0, 0, None, "", 50.0, 50.0, 50.0, peers.count,
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
    """A user's peer group: its name, how many others of the reference are in it, and why it is this one."""

    name: str
    count: int
    why: str
