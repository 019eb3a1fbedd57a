"""The statistical twin: a robust seasonal baseline that each user carries along, day by day.

For every user, metric and slot of the weekly round it keeps discounted sums (how often active, how
large), shrunk towards what everyone does at that time and the user's own level (empirical Bayes,
Efron & Morris 1975). Sizes are cut to a few deviations before they are learnt (Huber 1964), so that
an incident does not become tomorrow's normal. A day is forecast from the days before it alone.

The network learns corrections to the twin: where it has nothing to add, the twin remains.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logit

from anomaly.likelihoods.forecast import Families, Forecast

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

HALF_LIFE_DAYS = 42.0  # habits: about six weeks, so that a season's drift is followed
SLOT_PRIOR = 4.0  # observations that the prior of a slot is worth
LEVEL_PRIOR = 4.0  # observations that everyone's level is worth for a new user
SPREAD_PRIOR = 12.0  # observations that everyone's spread is worth
CUT = 3.0  # deviations beyond which a size is cut before it is learnt
SPREAD_FLOOR = 0.3  # a user's spread is never held to be less than this share of everyone's
RATE_EDGE = 2e-4  # no rate is held to be closer to 0 or 1
ALWAYS = np.float32(80.0)  # logit of the rate of a metric without hurdle: beyond every tail told


@dataclass(frozen=True, slots=True)
class TwinPrior:
    """What everyone does: rate, size (slots, metrics) and spread, level (metrics,), linked scale.

    rate: share of steps with activity; shape: size less the user's own level; spread: deviation of
    sizes about the user's slot; level and level_spread: of users' mean sizes.
    tick: (metrics,) linked resolution, under which no spread falls. families: laws of the sizes.
    """

    rate: NDArray[np.float32]
    shape: NDArray[np.float32]
    spread: NDArray[np.float32]
    level: NDArray[np.float32]
    tick: NDArray[np.float32]
    hurdle: NDArray[np.bool_]
    families: Families


@dataclass(frozen=True, slots=True)
class TwinState:
    """Discounted sums of each user: (users, slots, metrics) seen, active, size; (users, metrics)
    squares, freedom. days: (users,) days lived through.
    """

    seen: NDArray[np.float32]
    active: NDArray[np.float32]
    size: NDArray[np.float32]
    squares: NDArray[np.float32]
    freedom: NDArray[np.float32]
    days: NDArray[np.float32]

    @classmethod
    def empty(cls, users: int, slots: int, metrics: int) -> TwinState:
        """Users of whom nothing is known."""
        cube = (users, slots, metrics)
        flat = (users, metrics)
        zeros = [
            np.zeros(shape, dtype=np.float32) for shape in (cube, cube, cube, flat, flat, (users,))
        ]
        return cls(*zeros)


@dataclass(frozen=True, slots=True)
class TwinForecast:
    """The twin's word on some steps: (users, steps, metrics) each, linked scale."""

    active_logit: NDArray[np.float32]
    location: NDArray[np.float32]
    spread: NDArray[np.float32]
    families: Families

    def at(self, place: Any) -> TwinForecast:
        """Of some users and steps: an index of the leading axes."""
        return TwinForecast(
            self.active_logit[place], self.location[place], self.spread[place], self.families
        )

    def likelihood(self) -> Forecast:
        """As a distribution."""
        widths = np.array(self.families.widths, np.float32)
        return Forecast(self.active_logit, self.location, self.spread * widths, self.families)


def fit_prior(
    slot: NDArray[np.int16],
    slots: int,
    active: NDArray[np.bool_],
    middle: NDArray[np.float32],
    mask: NDArray[np.bool_],
    hurdle: NDArray[np.bool_],
    tick: NDArray[np.float32],
    families: Families,
) -> TwinPrior:
    """Learn what everyone does.

    Args: slot (users, steps); active, middle (linked sizes), mask (users, steps, metrics).
    """
    metrics = active.shape[-1]
    size = np.where(active, middle, 0).astype(np.float64)
    count = active.sum(1).astype(np.float64)
    own = size.sum(1) / np.maximum(count, 1)
    level = np.array(
        [
            np.median(own[count[:, m] > 0, m]) if (count[:, m] > 0).any() else 0.0
            for m in range(metrics)
        ]
    )
    own = np.where(count > 0, own, level)
    rate, shape = np.empty((slots, metrics)), np.zeros((slots, metrics))
    overall = (active.sum((0, 1)) + 0.5) / (mask.sum((0, 1)) + 1.0)
    apart = np.where(active, middle - own[:, None, :], 0)
    for place in range(slots):
        here = slot == place
        seen, happened = mask[here].sum(0), active[here].sum(0)
        rate[place] = (happened + SLOT_PRIOR * overall) / (seen + SLOT_PRIOR)
        shape[place] = apart[here].sum(0) / (happened + SLOT_PRIOR)
    left = np.where(active, middle - own[:, None, :] - shape[slot], 0)
    spread = np.empty(metrics)
    for metric in range(metrics):
        known = np.abs(left[..., metric][active[..., metric]])
        # 1.4826 x median absolute deviation is the sd of a normal; the mean backs it where half are equal
        spread[metric] = max(1.4826 * np.median(known), known.mean()) if len(known) else 1.0
    spread = np.maximum(spread, np.maximum(tick, 1e-6))
    return TwinPrior(
        np.clip(rate, RATE_EDGE, 1 - RATE_EDGE).astype(np.float32), shape.astype(np.float32), spread.astype(np.float32),
        level.astype(np.float32), tick, hurdle, families,
    )  # fmt: skip


def forecast(state: TwinState, prior: TwinPrior, slot: NDArray[np.int16]) -> TwinForecast:
    """What the twin expects at steps that fall on these slots, (users, steps)."""
    rate, size, spread = _tables(state, prior, places(slot))
    active_logit = logit(rate)
    active_logit[..., ~prior.hurdle] = ALWAYS
    wide = np.repeat(spread, slot.shape[1], axis=0).reshape(size.shape)
    return TwinForecast(active_logit, size, wide, prior.families)


def places(slot: NDArray[np.int16]) -> Any:
    """An index of (users, slots, ...) by (users, steps) slots. On most days everyone's are the same run of
    them, a slice.
    """
    first, steps = int(slot[0, 0]) if slot.size else 0, slot.shape[1]
    if np.array_equal(slot, np.broadcast_to(np.arange(first, first + steps), slot.shape)):
        return np.s_[:, first : first + steps]
    return np.arange(len(slot))[:, None], slot


def summed(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sums over slots or steps, (users, metrics): `sum(1)` in a quarter of its time."""
    total: NDArray[np.float32] = np.einsum("usm->um", cube)
    return total


def levels(state: TwinState, prior: TwinPrior) -> NDArray[np.float32]:
    """(users, metrics): each user's own mean size, linked scale."""
    mean = (summed(state.size) + LEVEL_PRIOR * prior.level) / (summed(state.active) + LEVEL_PRIOR)
    return np.asarray(mean, dtype=np.float32)


def day_levels(state: TwinState, prior: TwinPrior, kinds: int) -> NDArray[np.float32]:
    """(users, kinds, metrics): the size expected of a step of each kind of day, where something
    happens in it, linked scale.
    """
    rate, size, _ = _tables(state, prior, np.s_[:, :])
    rate, size = (it.reshape(len(it), kinds, -1, it.shape[-1]) for it in (rate, size))
    return np.asarray((rate * size).sum(2) / rate.sum(2), dtype=np.float32)


def _tables(
    state: TwinState, prior: TwinPrior, at: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Rates and sizes (users, slots, metrics), spreads (users, metrics). at: which users' which slots."""
    usual = summed(state.seen * prior.rate) + LEVEL_PRIOR * prior.rate.mean(0)
    lift = (summed(state.active) + LEVEL_PRIOR * prior.rate.mean(0)) / np.maximum(usual, 1e-6)
    seen, active, sizes = state.seen[at], state.active[at], state.size[at]
    everyone, shape = (
        np.broadcast_to(of, state.seen.shape)[at] for of in (prior.rate, prior.shape)
    )
    odds = everyone / (1 - everyone) * lift[:, None, :]
    rate = (active + SLOT_PRIOR * odds / (1 + odds)) / (seen + SLOT_PRIOR)
    rate = np.clip(rate, RATE_EDGE, 1 - RATE_EDGE)
    own = levels(state, prior)
    size = (sizes + SLOT_PRIOR * (own[:, None, :] + shape)) / (active + SLOT_PRIOR)
    variance = (state.squares + SPREAD_PRIOR * prior.spread**2) / (state.freedom + SPREAD_PRIOR)
    spread = np.maximum(np.sqrt(variance), np.maximum(SPREAD_FLOOR * prior.spread, prior.tick))
    return rate.astype(np.float32), size.astype(np.float32), spread.astype(np.float32)


def learn(
    state: TwinState,
    said: TwinForecast,
    slot: NDArray[np.int16],
    active: NDArray[np.bool_],
    middle: NDArray[np.float32],
    mask: NDArray[np.bool_],
    days: float,
) -> TwinState:
    """Take in what happened on the steps that were forecast.

    Args: days: how long these steps are; older days fade by it.
    Returns: a new state; the given one is left alone.
    """
    fade = np.float32(0.5 ** (days / HALF_LIFE_DAYS))
    most = CUT * said.spread
    apart = np.minimum(np.maximum(middle - said.location, -most), most)
    cut = said.location + apart
    size = cut * active
    squares = (cut - said.location) ** 2 * active
    sums = [sofar * fade for sofar in (state.seen, state.active, state.size)]
    at, rows = places(slot), np.arange(len(slot))
    for total, fresh in zip(sums, (mask, active, size), strict=True):
        if isinstance(at[0], slice):
            total[at] += fresh
            continue
        for step in range(slot.shape[1]):  # a step at a time: no user has two of it in one slot
            total[rows, slot[:, step]] += fresh[:, step]
    lived = mask.any((1, 2))
    return replace(
        state,
        seen=sums[0],
        active=sums[1],
        size=sums[2],
        squares=state.squares * fade + summed(squares),
        freedom=state.freedom * fade + active.sum(1, dtype=np.float32),
        days=state.days + np.where(lived, np.float32(days), 0).astype(np.float32),
    )
