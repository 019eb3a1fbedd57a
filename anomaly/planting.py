"""Plants incidents into a copy of real behaviour, to measure what would be found.

No story and no metric's name is behind them: each is one of the kinds that flags speak of, in sizes
from hardly to plainly visible, made from the user's own values and those of others. `anomaly.simulation`
makes whole worlds; this changes a given one (Emmott et al. 2013 on judging detectors so).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import ShapeError, UsageError
from anomaly.panel import DAY_SECONDS
from anomaly.records import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.metrics import MetricSpec
    from anomaly.panel import Panel

# What a size counts, by kind. Own spread: see `_spread`.
UNITS = {
    "burst": "times the own spread, added",
    "silence": "days",
    "shift": "hours",
    "drift": "times the own spread, reached at the end",
    "new": "times what others have of it",
    "combination": "days",
}
SIZES = (1.0, 2.0, 4.0, 8.0)
LEAST_DAYS = 7.0  # a user must be present for so long to be chosen ...
MOST_OF_PRESENCE = 0.5  # ... and an incident covers at most this part of the presence
LEAST_TRACE = 1.0  # own spreads by which an incident changes a user's numbers in all, at least
ATTEMPTS = 8  # places tried for a user before the next user is taken
BURST_HOURS = 12.0  # the longest burst
DRIFT_DAYS = (5.0, 15.0)
SHIFT_DAYS = (3.0, 10.0)
HEAVY = 0.95  # values beyond this quantile count as much as it: one giant is no spread
LEAST_SPREAD = 0.1  # of the usual amount: the spread of a metric that never varies
UNEVEN = 4.0  # shape of the gamma that makes steps of one incident unlike


@dataclass(frozen=True, slots=True)
class Planted:
    """One incident: row `user` of the panel, in steps first to last (exclusive).

    metrics: columns of the panel, the most changed first. size: in the unit of its kind (UNITS).
    The steps are those that changed, so a silence over a free weekend is not counted longer.
    """

    user: int
    kind: str
    first: int
    last: int
    metrics: tuple[int, ...]
    size: float


def plant(
    panel: Panel,
    specs: Mapping[str, MetricSpec],
    seed: int,
    incidents: int,
    *,
    kinds: Sequence[str] = KINDS,
    sizes: Sequence[float] = SIZES,
    usual: Panel | None = None,
) -> tuple[Panel, tuple[Planted, ...]]:
    """Plant incidents into a copy of a panel, each in another user, kinds and sizes by turns.

    Only values that are known change, and only where the user is present; counts stay whole where
    they were, shares within 0 and 1. Metrics that heed one side are moved to that side.

    Args: panel: (users, steps, metrics), any grid; it is left as it is. incidents: how many are
        wanted; fewer are planted where users are few or a kind leaves no trace in anybody
        (`possible`). usual: earlier steps of the same users, by which a user's own spread and
        never used metrics are known. Default: the panel.
    Returns: the changed panel, whose untouched rows are equal; what was planted, by row. The same
        for the same arguments, whatever the order of users.
    Raises: UsageError for a kind, size or number that cannot be; ShapeError if `usual` is of other
        users or metrics.
    """
    _check(panel, incidents, kinds, sizes, usual)
    field = _Field.of(panel, specs, panel if usual is None else usual)
    allowed = possible(panel, specs)
    wanted = [kind for kind in kinds if kind in allowed]
    values = panel.values.copy()
    free = _candidates(panel, np.random.default_rng([seed, 0]))
    planted: list[Planted] = []
    hopeless: set[str] = set()  # kinds that left no trace in anybody who is left
    for number in count():
        if len(planted) == incidents or not free or hopeless.issuperset(wanted):
            break
        kind = wanted[number % len(wanted)]
        if kind in hopeless:
            continue
        size = float(sizes[number // len(wanted) % len(sizes)])
        for user in free:
            rng = np.random.default_rng([seed, 1, number, *panel.users[user].encode()])
            found = _attempt(field, rng, user, kind, size)
            if found is not None:
                incident, values[user] = found
                planted.append(incident)
                free.remove(user)
                break
        else:
            hopeless.add(kind)
    planted.sort(key=lambda incident: incident.user)
    return replace(panel, values=values), tuple(planted)


def possible(panel: Panel, specs: Mapping[str, MetricSpec]) -> tuple[str, ...]:
    """The kinds that this panel's grid and metrics allow.

    Hours cannot shift on a grid of days, nothing falls silent where only rises count, and nobody
    else's behaviour can be pasted in where there is one user or one metric.
    """
    users, _, metrics = panel.shape
    missing = set()
    if panel.grid.step >= DAY_SECONDS:
        missing.add("shift")
    if all(specs[name].direction == "up" for name in panel.metrics):
        missing.add("silence")
    if all(specs[name].direction == "down" for name in panel.metrics) or users < 2:
        missing.add("new")
    if users < 2 or metrics < 2:
        missing.add("combination")
    return tuple(kind for kind in KINDS if kind not in missing)


def _check(
    panel: Panel, incidents: int, kinds: Sequence[str], sizes: Sequence[float], usual: Panel | None
) -> None:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UsageError(f"planting: kinds {list(kinds)}; take some of {', '.join(KINDS)}.")
    if incidents < 0 or not sizes or min(sizes) <= 0:
        raise UsageError(
            f"planting: {incidents} incidents of sizes {list(sizes)}; take 0 or more, of sizes above 0."
        )
    if usual is not None and (usual.users, usual.metrics) != (panel.users, panel.metrics):
        raise ShapeError(
            f"planting: panel has {len(panel.users)} users and metrics {panel.metrics[:5]}, `usual` "
            f"{len(usual.users)} and {usual.metrics[:5]}. Lay both out alike."
        )


def _candidates(panel: Panel, rng: np.random.Generator) -> list[int]:
    """Users who are there for long enough, in an order that hangs on names and seed alone."""
    by_name = sorted(range(len(panel.users)), key=lambda row: panel.users[row].encode())
    least = LEAST_DAYS * DAY_SECONDS / panel.grid.step
    stay = panel.last - panel.first
    return [
        by_name[place] for place in rng.permutation(len(by_name)) if stay[by_name[place]] >= least
    ]


@dataclass(frozen=True, slots=True)
class _Field:
    """The panel and what is measured of it once.

    whole: (metrics,) bool, known values are whole. typical: (metrics,) what a value other than 0
    usually is, over all users; 0 where nobody has any.
    """

    panel: Panel
    specs: tuple[MetricSpec, ...]
    usual: Panel
    whole: NDArray[np.bool_]
    typical: NDArray[np.float64]

    @classmethod
    def of(cls, panel: Panel, specs: Mapping[str, MetricSpec], usual: Panel) -> _Field:
        """Measure what is asked of every user alike."""
        columns = np.moveaxis(usual.values, -1, 0)
        broken = np.asarray((usual.values % 1 != 0).any((0, 1)), dtype=np.bool_)
        return cls(
            panel, tuple(specs[name] for name in panel.metrics), usual,
            ~broken,
            np.array([_median(np.abs(column[column != 0])) for column in columns]),
        )  # fmt: skip

    def known(self, user: int) -> NDArray[np.bool_]:
        """(steps, metrics): values that may be changed."""
        known: NDArray[np.bool_] = self.panel.mask[user] & self.panel.present[user][:, None]
        return known

    def amount(self, user: int) -> NDArray[np.float64]:
        """(metrics,): the user's usual value where there is any; 0 of a metric never used."""
        return np.array([_median(_active(self.usual, user, m)) for m in range(len(self.specs))])

    def spread(self, user: int) -> NDArray[np.float64]:
        """(metrics,): the user's own spread; 0 of a metric never used."""
        return np.array([_spread(_active(self.usual, user, m)) for m in range(len(self.specs))])


def _active(panel: Panel, user: int, metric: int) -> NDArray[np.float64]:
    """A user's known values of a metric other than 0."""
    values = panel.values[user, :, metric]
    used: NDArray[np.bool_] = panel.mask[user, :, metric] & (values != 0)
    return values[used].astype(np.float64)


def _median(active: NDArray[np.float64]) -> float:
    return float(np.median(active)) if len(active) else 0.0


def _spread(active: NDArray[np.float64]) -> float:
    """The standard deviation of values other than 0, giants cut, at least a tenth of the usual."""
    if not len(active):
        return 0.0
    low, high = np.quantile(active, [1 - HEAVY, HEAVY])
    return float(max(np.clip(active, low, high).std(), LEAST_SPREAD * np.median(np.abs(active))))


@dataclass(frozen=True, slots=True)
class _Scene:
    """One user, where an incident may happen.

    values: (steps, metrics) float64, changed in place. known: same shape. active: (steps,) True
    where anything known is not 0. amount, spread: (metrics,). heeded: (metrics,) 1 or -1 where one
    side alone counts, else 0. others: rows of the other users, in the order of names.
    """

    field: _Field
    rng: np.random.Generator
    user: int
    size: float
    values: NDArray[np.float64]
    known: NDArray[np.bool_]
    active: NDArray[np.bool_]
    amount: NDArray[np.float64]
    spread: NDArray[np.float64]
    heeded: NDArray[np.int64]

    @property
    def per_day(self) -> float:
        """Steps in a day."""
        return DAY_SECONDS / self.field.panel.grid.step

    def stretch(self, days: float) -> slice:
        """A random stretch of so many days within the user's presence, at least one step."""
        first = int(self.field.panel.first[self.user])
        last = int(self.field.panel.last[self.user])
        most = int((last - first) * MOST_OF_PRESENCE)
        length = int(np.clip(round(days * self.per_day), 1, max(1, most)))
        start = int(self.rng.integers(first, last - length + 1))
        return slice(start, start + length)

    def lively(self, days: float) -> slice:
        """The same, if the user does at least half as much there as elsewhere; else nothing of it."""
        at = self.stretch(days)
        share = float(self.active[self.known.any(-1)].mean())
        return at if self.active[at].mean() >= share / 2 else slice(at.start, at.start)

    def pick(self, among: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
        """One to `most` of these metrics at random; none where there are none."""
        metrics = np.flatnonzero(among)
        count = int(self.rng.integers(1, most + 1))
        return self.rng.permutation(metrics)[:count]

    def sign(self, metric: int) -> int:
        """The side to which a metric is moved: that which is heeded, up for counts, else any."""
        if self.heeded[metric]:
            return int(self.heeded[metric])
        if self.field.specs[metric].kind == "count":
            return 1
        return int(self.rng.choice([-1, 1]))

    def uneven(self, count: int) -> NDArray[np.float64]:
        """(count,) positive factors around 1."""
        return self.rng.gamma(UNEVEN, 1 / UNEVEN, count)


def _burst(scene: _Scene) -> None:
    """More than usual of one to three metrics, for a step or up to half a day."""
    longest = max(BURST_HOURS / 24 * scene.per_day, 1.0)
    at = scene.stretch(float(np.exp(scene.rng.uniform(0, np.log(longest)))) / scene.per_day)
    for metric in scene.pick(scene.spread > 0, 3):
        more = scene.size * scene.spread[metric] * scene.uneven(at.stop - at.start)
        scene.values[at, metric] += scene.sign(metric) * more


def _silence(scene: _Scene) -> None:
    """All that may fall does: counts to nothing, others to the least the user ever had."""
    at = scene.lively(scene.size)
    least = np.array([
        0.0 if spec.kind == "count" else _least(_active(scene.field.usual, scene.user, metric))
        for metric, spec in enumerate(scene.field.specs)
    ])  # fmt: skip
    falls = scene.heeded <= 0
    part = scene.values[at]
    part[:, falls] = np.minimum(part, least)[:, falls]


def _least(active: NDArray[np.float64]) -> float:
    return float(active.min()) if len(active) else 0.0


def _shift(scene: _Scene) -> None:
    """For some days everything happens hours earlier or later; day's totals hardly change."""
    days = round(scene.rng.uniform(*SHIFT_DAYS))
    at = scene.lively(float(days))
    steps = max(1, round(scene.size / 24 * scene.per_day)) * int(scene.rng.choice([-1, 1]))
    moved, known = (np.roll(part[at], steps, axis=0) for part in (scene.values, scene.known))
    scene.values[at] = np.where(known, moved, scene.values[at])


def _drift(scene: _Scene) -> None:
    """One or two metrics grow from day to day where they are used at all."""
    at = scene.lively(scene.rng.uniform(*DRIFT_DAYS))
    rise = np.linspace(0, scene.size, at.stop - at.start + 1)[1:]
    for metric in scene.pick(scene.spread > 0, 2):
        used = scene.values[at, metric] != 0
        scene.values[at, metric] += scene.sign(metric) * rise * scene.spread[metric] * used


def _new(scene: _Scene) -> None:
    """A metric this user never had appears, as others have it, for some of the steps of a day or two."""
    never = (scene.spread == 0) & (scene.heeded >= 0) & ~scene.values.any(0) & scene.known.any(0)
    at = scene.stretch(scene.rng.uniform(0.5, 2))
    for metric in scene.pick(never & (scene.field.typical > 0), 1):
        amount = scene.size * scene.field.typical[metric]
        used = scene.active[at] | (scene.rng.random(at.stop - at.start) < 1 / 4)
        scene.values[at, metric] += used * amount * scene.uneven(at.stop - at.start)


def _combination(scene: _Scene) -> None:
    """Some metrics are somebody else's of the same days, at this user's level; the others stay."""
    panel = scene.field.panel
    names = sorted(
        (name.encode(), row) for row, name in enumerate(panel.users) if row != scene.user
    )
    other = names[int(scene.rng.integers(len(names)))][1]
    theirs = scene.field.amount(other)
    at = scene.lively(scene.size)
    both = (scene.amount != 0) & (theirs != 0)
    for metric in scene.pick(both, max(1, int(both.sum()) // 2)):
        there = panel.mask[other, at, metric]
        pasted = panel.values[other, at, metric] * (scene.amount[metric] / theirs[metric])
        scene.values[at, metric] = np.where(there, pasted, scene.values[at, metric])


CHANGES: dict[str, Callable[[_Scene], None]] = {
    "burst": _burst,
    "silence": _silence,
    "shift": _shift,
    "drift": _drift,
    "new": _new,
    "combination": _combination,
}


def _attempt(
    field: _Field, rng: np.random.Generator, user: int, kind: str, size: float
) -> tuple[Planted, NDArray[np.float32]] | None:
    """Try a few places of one user; None where nothing would show."""
    before = field.panel.values[user]
    known = field.known(user)
    active: NDArray[np.bool_] = ((before != 0) & known).any(-1)
    if not active.any():
        return None
    amount, spread = field.amount(user), field.spread(user)
    side = {"both": 0, "up": 1, "down": -1}
    heeded = np.array([side[spec.direction] for spec in field.specs])
    for _ in range(ATTEMPTS):
        scene = _Scene(
            field, rng, user, size, before.astype(np.float64), known, active, amount, spread, heeded
        )
        CHANGES[kind](scene)
        if np.array_equal(scene.values, before):
            continue
        after = _settled(scene, before)
        incident = _trace(scene, kind, before, after)
        if incident is not None:
            return incident, after
    return None


def _settled(scene: _Scene, before: NDArray[np.float32]) -> NDArray[np.float32]:
    """The user's values as they could have been recorded, (steps, metrics)."""
    values = scene.values
    whole = np.floor(values + scene.rng.random(values.shape))
    values = np.where(scene.field.whole, whole, values)
    for metric, spec in enumerate(scene.field.specs):
        if spec.kind != "gauge":
            values[:, metric] = np.clip(values[:, metric], 0, 1 if spec.kind == "share" else None)
    touched = scene.known & (scene.values != before)
    largest = np.finfo(np.float32).max
    return np.where(touched, np.clip(values, -largest, largest), before).astype(np.float32)


def _trace(
    scene: _Scene, kind: str, before: NDArray[np.float32], after: NDArray[np.float32]
) -> Planted | None:
    """What changed; None where it is less than LEAST_TRACE."""
    change = np.abs(after.astype(np.float64) - before)
    steps = np.flatnonzero(change.any(1))
    unit = np.where(scene.spread > 0, scene.spread, np.inf)
    weight = change.sum(0) / unit
    weight = np.where((scene.spread == 0) & change.any(0), np.inf, weight)
    if not len(steps) or weight.sum() < LEAST_TRACE:
        return None
    metrics = np.argsort(-weight, kind="stable")[: int((weight > 0).sum())]
    return Planted(
        scene.user, kind, int(steps[0]), int(steps[-1]) + 1,
        tuple(int(metric) for metric in metrics), scene.size,
    )  # fmt: skip
