"""Notices that the unit of a metric has changed: nearly everyone's level moved together by one power.

Seconds that become milliseconds overnight are a thousandfold for everybody at once and stay so. People
do not do that: the metric is named, once, and is unknown for as long as it lasts, rather than flagged for
each of them. One user whose values grow a thousandfold is no change of unit.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from anomaly import twin
from anomaly.calendar import day_kinds
from anomaly.reading import days_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.likelihoods.links import Links
    from anomaly.panel import Panel
    from anomaly.twin import TwinPrior, TwinState

LEAST_USERS = 5  # who must have moved together; fewer may have their reasons
LEAST_DAYS = 2  # on which they are seen to; one day may be a feast or a patch
LEAST_SEEN = 20.0  # values (discounted) that a user's own level rests on
SHARE = 0.9  # of the users, at least, who moved by the same power
WEEKEND = 3  # days in a row, at most, that may lie nearer without ending a run
APART = 0.5  # decades, at least, that a day of the new unit lies from any kind of day known
NEAR = 0.15  # decades about a power within which the middle user lies
WITHIN = 0.5  # decades about it within which a user counts as moved
# How units of one kind relate: decimal and binary prefixes, minutes and hours to seconds.
POWERS = (*(10.0**k for k in range(1, 13)), *(1024.0**k for k in range(1, 5)), 60.0, 3_600.0)


@dataclass(frozen=True, slots=True)
class UnitChange:
    """A metric in another unit. factor: old values times this are about the new ones; since, until:
    seconds UTC, until exclusive. moved, users: who moved by it, of those whose level is known.
    """

    metric: str
    factor: float
    since: int
    until: int
    moved: int
    users: int

    def sentence(self, timezone: str) -> str:
        """What happened, since when, and what to do."""
        day = dt.datetime.fromtimestamp(self.since, ZoneInfo(timezone))
        how = f"{self.factor:.0f}-fold" if self.factor > 1 else f"to 1/{1 / self.factor:.0f}"
        return (
            f"metric {self.metric} of {self.moved} of {self.users} users: unit changed about {how} "
            f"since {day:%Y-%m-%d}; it is not judged while that lasts. Convert it where it comes "
            "from and import those rows again"
        )


def changes(
    panel: Panel, links: Links, prior: TwinPrior, state: TwinState, timezone: str
) -> tuple[UnitChange, ...]:
    """The changes of unit in a stretch of time.

    Args: panel: of many users; state: what was known of them before it.
    """
    if len(panel.users) < LEAST_USERS:
        return ()
    days = days_of(panel.grid, timezone)
    moves = _moves(panel, links, prior, state, [first for first, _ in days])
    ends = [*panel.grid.times, panel.grid.end]
    found = []
    for place, metric in enumerate(panel.metrics):
        own = moves[..., place]
        for run in _runs(own):
            factor, moved, users = _agreed(own[:, slice(*run)])
            if factor is not None:
                first, last = _nearer(own, run, float(np.log10(factor)))
                since, until = int(ends[days[first][0]]), int(ends[days[last - 1][1]])
                found.append(UnitChange(metric, factor, since, until, moved, users))
    return tuple(found)


def masked(panel: Panel, found: Sequence[UnitChange]) -> Panel:
    """The panel, with what is in another unit unknown."""
    if not found:
        return panel
    values, mask = panel.values.copy(), panel.mask.copy()
    for one in found:
        at = (panel.grid.times >= one.since) & (panel.grid.times < one.until)
        place = panel.metrics.index(one.metric)
        values[:, at, place], mask[:, at, place] = 0, False
    return replace(panel, values=values, mask=mask)


def _moves(
    panel: Panel, links: Links, prior: TwinPrior, state: TwinState, starts: Sequence[int]
) -> NDArray[np.float64]:
    """(users, days, metrics): how far, in decades, a day's values lie from the user's own level; NaN
    where the user did nothing or the level is not known.

    A day that is like one of the user's kinds of day lies as near as that: a quiet Sunday is no tenth
    of a Friday in another unit.
    """
    mask = panel.mask & panel.present[..., None]
    active = links.active(panel.values, mask) & (panel.values != 0)
    sizes = np.log10(np.abs(panel.values), where=active, out=np.zeros_like(panel.values))
    count = np.add.reduceat(active, starts, axis=1, dtype=np.int64)
    day = np.add.reduceat(sizes, starts, axis=1, dtype=np.float64) / np.maximum(count, 1)
    known = state.active.sum(1) >= LEAST_SEEN
    moves = day - _decades(links, twin.levels(state, prior))[:, None, :]
    kinds = _decades(links, twin.day_levels(state, prior, day_kinds(panel.grid.step)))
    for kind in range(kinds.shape[1]):
        apart = day - kinds[:, None, kind, :]
        alike = np.abs(apart) < np.minimum(APART, np.abs(moves))
        moves = np.where(alike, apart, moves)
    return np.where((count > 0) & known[:, None, :], moves, np.nan)


def _decades(links: Links, level: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithms of levels on the linked scale; NaN of what is nothing."""
    own = np.abs(links.inverse(level)).astype(np.float64)
    return np.log10(own, where=own > 0, out=np.full_like(own, np.nan))


def _runs(moves: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Runs of days, [first, last), on which the middle user lies far off, always on one side.

    A few days that lie nearer, or on which few did anything, do not end a run: they are a weekend.
    """
    runs: list[tuple[int, int]] = []
    sides: list[float] = []
    judged = [day for day in range(moves.shape[1]) if _there(moves, day).size >= LEAST_USERS]
    far = {day: middle for day in judged if abs(middle := np.median(_there(moves, day))) >= APART}
    for day, middle in far.items():
        if runs and sides[-1] == np.sign(middle) and day - runs[-1][1] <= WEEKEND:
            runs[-1] = runs[-1][0], day + 1
        else:
            runs.append((day, day + 1))
            sides.append(float(np.sign(middle)))
    later = [day for day in judged if runs and day >= runs[-1][1]]
    if runs and len(later) <= WEEKEND:  # to the end of what is known
        runs[-1] = runs[-1][0], moves.shape[1]
    return [run for run in runs if sum(run[0] <= day < run[1] for day in far) >= LEAST_DAYS]


def _there(moves: NDArray[np.float64], day: int) -> NDArray[np.float64]:
    there: NDArray[np.float64] = moves[:, day][~np.isnan(moves[:, day])]
    return there


def _nearer(moves: NDArray[np.float64], run: tuple[int, int], step: float) -> tuple[int, int]:
    """The run without days at its ends that lie nearer to the old unit, such as a quiet Sunday."""
    there = [(day, _there(moves, day)) for day in range(*run)]
    middles = {day: float(np.median(some)) for day, some in there if some.size}
    near = [day for day, middle in middles.items() if abs(middle - step) < abs(middle)]
    return min(near, default=run[0]), run[1] if max(middles) in near else max(near) + 1


def _agreed(moves: NDArray[np.float64]) -> tuple[float | None, int, int]:
    """By what power the users moved on these days, None if by none together; how many, of how many."""
    there = moves[~np.isnan(moves).all(1)]
    if len(there) < LEAST_USERS:
        return None, 0, 0
    own = np.nanmedian(there, axis=1)
    middle = float(np.median(own))
    power = min(POWERS, key=lambda one: abs(abs(middle) - np.log10(one)))
    step = float(np.copysign(np.log10(power), middle))
    moved = int((np.abs(own - step) <= WITHIN).sum())
    if abs(middle - step) > NEAR or moved < SHARE * len(own):
        return None, 0, 0
    return 10.0**step, moved, len(own)
