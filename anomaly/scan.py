"""Windows: what a stretch of deviations adds up to, over several lengths, seen in two ways.

Each step says how loud it is: the energy of its metrics' deviations beyond what chance makes
common. Each window says how steady it is: the same energy of each metric's sum over the window, so
that what is small but does not end shows too. Both are set against what the user's own history
reaches and calibrated on everybody's, so that ways and lengths compare; a step's evidence is the
mean, over ways and lengths, of the most surprising window that covers it. An incident shows at
several lengths and in several ways, chance rarely does: the mean of logarithms of tail
probabilities is Fisher's combination (1932), where a maximum pays for every look it takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anomaly.panel import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.calibration import TailMap

HALF_LIFE_DAYS = 90.0  # of a user's own history of sums
OWN_PRIOR_DAYS = 14.0  # days that everyone's history of sums is worth for a user
SPREAD_FLOOR = 0.5  # own spread is never held to be less than this share of everyone's
CUT = 4.0  # deviations beyond which a sum is cut before it is learnt
STEP_CUT = np.float32(6.0)  # deviations of a step beyond which more says nothing new
SUM_CUT = np.float32(12.0)  # the same of a window's sum
MOST_SURPRISE = np.float32(15.0)  # 1e-15: beyond it one window says nothing more
FINE_STEP = 1_800  # seconds; finer grids are read in other lengths
FALL = 0.25  # people live by the day: the root by which shorter and longer windows count less
LOUD, STEADY = 0, 1  # the two ways of looking
# Steadiness that one step in three reaches says nothing, nor does a lack of it: a short incident leaves
# none. Tail probabilities above a limit are left out of the product (Zaykin et al. 2002).
LEAST_STEADY = np.float32(0.5)
VIEWS = 2

Combine = Literal["mean", "highest", "loud", "steady"]


def heeded(
    deviation: NDArray[np.float32], directions: Sequence[str], cut: np.float32 = STEP_CUT
) -> NDArray[np.float32]:
    """Deviations (..., metrics) on the sides worth a flag ('both', 'up', 'down'), cut; else 0."""
    # One number for all is quicker than one for each.
    alike = directions[:1] if len(set(directions)) == 1 else directions
    low = np.array([0 if d == "up" else -cut for d in alike], dtype=np.float32)
    high = np.array([0 if d == "down" else cut for d in alike], dtype=np.float32)
    return np.minimum(np.maximum(deviation, low), high)


def floor_of(values: float) -> np.float32:
    """Deviations that say nothing where so many values are added up: sqrt(ln n).

    None for one, and among many it lies between that of a change in all of them (0) and in one alone
    (sqrt(2 ln n): Donoho & Johnstone 1994).
    """
    return np.float32(np.sqrt(np.log(values)))


def loud_floor(metrics: int, step: int) -> np.float32:
    """The floor of loudness. It is added up over windows from a step to a day and more: the floor is that
    of a window half way between the two. With that of a step, the hours of a busy day, each a little
    high, would come to what one odd hour reaches. Fine grids are read by the minute.
    """
    half_way = np.sqrt(max(1.0, DAY_SECONDS / step)) if step >= FINE_STEP else 1.0
    return floor_of(metrics * half_way)


def energy(deviation: NDArray[np.float32], floor: np.float32) -> NDArray[np.float32]:
    """Squares of what exceeds the floor, same shape."""
    return np.asarray(np.square(np.maximum(np.abs(deviation) - floor, 0)), dtype=np.float32)


def seen_at(deviation: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """What is summed over windows, (users, steps, 1 + metrics): loudness, then each deviation.

    Args: deviation: heeded, of each metric given those before it in the step: they are independent if all
        is well, so that their squares may be added. step: seconds.
    """
    users, steps, metrics = deviation.shape
    seen = time_last((users, steps, 1 + metrics))
    seen[..., 0] = energy(deviation, loud_floor(metrics, step)).sum(-1)
    seen[..., 1:] = deviation
    return seen


def time_last(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Room for (users, steps, ...) with a user's steps side by side in memory, where sums over windows
    run along them; what numpy makes of such an array lies like it.
    """
    users, steps, *rest = shape
    return np.moveaxis(np.empty((users, *rest, steps), np.float32), -1, 1)


def ways(deviation: NDArray[np.float32], directions: Sequence[str]) -> NDArray[np.float32]:
    """From window sums against own history, (users, steps, 1 + metrics, lengths), to the two ways of
    looking, (users, steps, VIEWS, lengths).
    """
    users, steps, _, lengths = deviation.shape
    looks = time_last((users, steps, VIEWS, lengths))
    sums = heeded(np.moveaxis(deviation[:, :, 1:], 2, -1), directions, SUM_CUT)
    looks[:, :, LOUD] = deviation[:, :, 0]
    looks[:, :, STEADY] = energy(sums, floor_of(sums.shape[-1])).sum(-1)
    return looks


def window_lengths(step: int) -> tuple[int, ...]:
    """Lengths in steps: from one step to a week (four weeks on a daily grid)."""
    if step >= DAY_SECONDS:
        return (1, 2, 3, 7, 14, 28)
    spans = [step, 6 * 3_600, DAY_SECONDS, 3 * DAY_SECONDS, 7 * DAY_SECONDS]
    if step < FINE_STEP:  # a fine grid is read for faults of minutes, not for habits of days
        spans = [step, 4 * step, 16 * step, 3_600, 4 * 3_600]
    return tuple(sorted({max(1, span // step) for span in spans}))


def length_weights(step: int, lengths: Sequence[int]) -> NDArray[np.float32]:
    """What each length counts for in the mean, (lengths,), in all 1.

    Most counts a window of a day: shorter ones hold less of what somebody does, longer ones are spread
    over days that had no part in it. Fine grids are of machines, and all lengths count alike there.
    """
    ratio = np.array(lengths) * step / DAY_SECONDS
    weight = np.minimum(ratio, 1 / ratio) ** (FALL if step >= FINE_STEP else 0)
    return np.asarray(weight / weight.sum(), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Looking:
    """What of the scan is in use; all of it, unless something is switched off to see what it brings.

    windows: False reads each step by itself. own_history: False compares with everyone's sums alone.
    common_shock: False leaves in what hits everyone. combine: see `evidence`. courses: True compares
    courses of values with the past too (`anomaly.shapes`).
    """

    windows: bool = True
    own_history: bool = True
    common_shock: bool = True
    combine: Combine = "mean"
    courses: bool = False

    def lengths(self, step: int) -> tuple[int, ...]:
        """Window lengths in steps."""
        return window_lengths(step) if self.windows else (1,)


def window_sums(
    before: NDArray[np.float32], now: NDArray[np.float32], lengths: Sequence[int]
) -> NDArray[np.float32]:
    """Sums over the windows that end at each step of `now`, (users, steps, channels, lengths).

    Args: before: (users, longest - 1, channels) the steps that came before.
    """
    (users, steps, channels), lead = now.shape, before.shape[1]
    running = np.zeros((users, channels, 1 + lead + steps))
    joined = np.concatenate([np.moveaxis(before, 1, -1), np.moveaxis(now, 1, -1)], axis=-1)
    np.cumsum(joined, axis=-1, dtype=np.float64, out=running[..., 1:])
    running = np.moveaxis(running, -1, 1)
    ends = running[:, lead + 1 :]
    sums = time_last((users, steps, channels, len(lengths)))
    for place, length in enumerate(lengths):
        begins = running[:, lead + 1 - length : lead + 1 - length + steps]
        np.subtract(ends, begins, out=sums[..., place], casting="same_kind")
    return sums


@dataclass(frozen=True, slots=True)
class Moments:
    """Weight in days (users,), mean and mean square (users, channels, lengths) of window sums."""

    weight: NDArray[np.float32]
    mean: NDArray[np.float32]
    square: NDArray[np.float32]

    @classmethod
    def empty(cls, users: int, channels: int, lengths: int) -> Moments:
        """Nothing is known."""
        shape = (users, channels, lengths)
        return cls(
            np.zeros(users, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        )


@dataclass(frozen=True, slots=True)
class Usual:
    """Everybody's mean and spread of window sums, (channels, lengths)."""

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def fit(cls, sums: NDArray[np.float32]) -> Usual:
        """From a sample of sums (sample, channels, lengths)."""
        spread = np.maximum(sums.std(0, dtype=np.float64), 1e-3)
        return cls(sums.mean(0, dtype=np.float64).astype(np.float32), spread.astype(np.float32))


def against_own(sums: NDArray[np.float32], own: Moments, usual: Usual) -> NDArray[np.float32]:
    """Each sum in deviations of the user's own history of sums, same shape."""
    mean, spread = own_level(own, usual)
    return (sums - mean[:, None]) / spread[:, None]


def own_level(own: Moments, usual: Usual) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Own mean and spread, (users, channels, lengths), shrunk towards everyone's."""
    weight = own.weight[:, None, None]
    total = weight + np.float32(OWN_PRIOR_DAYS)
    mean = (weight * own.mean + OWN_PRIOR_DAYS * usual.mean) / total
    square = (weight * own.square + OWN_PRIOR_DAYS * (usual.spread**2 + usual.mean**2)) / total
    spread = np.sqrt(np.maximum(square - mean**2, (SPREAD_FLOOR * usual.spread) ** 2))
    return mean.astype(np.float32), spread.astype(np.float32)


def learn(
    own: Moments, sums: NDArray[np.float32], known: NDArray[np.bool_], usual: Usual, days: float
) -> Moments:
    """Take in a stretch of sums; returns new moments. known: (users, steps)."""
    mean, spread = own_level(own, usual)
    low, high = (mean - CUT * spread)[:, None], (mean + CUT * spread)[:, None]
    cut = np.minimum(np.maximum(sums, low), high)
    if not known.all():
        cut[~known] = 0
    count = known.sum(1).astype(np.float32)
    share = np.divide(count, known.shape[1])
    fresh = share * np.float32(days)
    old = own.weight * np.float32(0.5 ** (days / HALF_LIFE_DAYS))
    weight = old + fresh
    part = np.where(weight > 0, fresh / np.maximum(weight, 1e-6), 0)[:, None, None].astype(
        np.float32
    )
    n = np.maximum(count, 1)[:, None, None]
    now_mean = cut.sum(1, dtype=np.float64) / n
    now_square = np.square(cut, dtype=np.float64).sum(1) / n
    return Moments(
        weight.astype(np.float32),
        ((1 - part) * own.mean + part * now_mean).astype(np.float32),
        ((1 - part) * own.square + part * now_square).astype(np.float32),
    )


def surprises(looks: NDArray[np.float32], maps: Sequence[Sequence[TailMap]]) -> NDArray[np.float32]:
    """Calibrate each way of looking and length, same shape; maps[view][length]."""
    out = np.empty_like(looks)
    for view in range(looks.shape[2]):
        for length in range(looks.shape[3]):
            out[:, :, view, length] = maps[view][length](looks[:, :, view, length])
    return np.minimum(out, MOST_SURPRISE)


def evidence(
    surprise: NDArray[np.float32], lengths: Sequence[int], step: int, combine: Combine = "mean"
) -> NDArray[np.float32]:
    """The mean over ways and lengths of the most surprising window that covers each step; of the steady
    way only what lies above LEAST_STEADY counts.

    Args: surprise (users, steps, VIEWS, lengths) of the windows that end at each step. step: seconds.
        combine: 'highest' takes the highest in place of the mean; 'loud' and 'steady' are one way alone.
    Returns: (users, steps) float32.
    """
    views = {"loud": [LOUD], "steady": [STEADY]}.get(combine, [LOUD, STEADY])
    weights = length_weights(step, lengths)
    share = np.float32(1 / len(views))
    total = np.zeros(surprise.shape[:2], dtype=np.float32)
    for view in views:
        found = np.zeros_like(total)
        for index, length in enumerate(lengths):
            one = covered(surprise[:, :, view, index], length)
            found = np.maximum(found, one) if combine == "highest" else found + weights[index] * one
        if combine == "mean" and view == STEADY:
            found = np.maximum(found, LEAST_STEADY)
        total = np.maximum(total, found) if combine == "highest" else total + share * found
    return total


def covered(surprise: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """The highest among the windows of this length that cover each step, (users, steps)."""
    found, reach, steps = surprise.copy(), 1, surprise.shape[1]
    while reach < length:  # doubling: the highest of the next `length` ends
        shift = min(reach, length - reach)
        if shift < steps:
            found[:, : steps - shift] = np.maximum(found[:, : steps - shift], found[:, shift:])
        reach += shift
    return found
