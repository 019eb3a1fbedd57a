"""Windows: the best explanation of a stretch of deviations, short and loud or long and quiet.

Deviations are summed over trailing windows of several lengths, for each metric upwards and
downwards and for all metrics together (a scan statistic: Kulldorff 1997). Each sum is set against
what the user's own history of such sums reaches, then calibrated on everybody's history, so that
lengths and channels compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
ENERGY_CUT = np.float32(6.0)
FINE_STEP = 1_800  # seconds; finer grids are read in other lengths


@dataclass(frozen=True, slots=True)
class Channel:
    """One way of looking: a metric's index or -1 for all together; sign +1 up, -1 down, 0 either."""

    metric: int
    sign: int


def channels_of(directions: Sequence[str]) -> tuple[Channel, ...]:
    """Channels for metrics with these directions ('both', 'up', 'down')."""
    single = [
        Channel(metric, sign)
        for metric, direction in enumerate(directions)
        for sign in (1, -1)
        if direction == "both" or (direction == "up") == (sign > 0)
    ]
    together = [Channel(-1, 1), Channel(-1, -1)] if len(directions) > 1 else []
    return (*single, *together, Channel(-1, 0))


def window_lengths(step: int) -> tuple[int, ...]:
    """Lengths in steps: from one step to a week (four weeks on a daily grid)."""
    if step >= DAY_SECONDS:
        return (1, 2, 3, 7, 14, 28)
    spans = [step, 6 * 3_600, DAY_SECONDS, 3 * DAY_SECONDS, 7 * DAY_SECONDS]
    if step < FINE_STEP:  # a fine grid is read for faults of minutes, not for habits of weeks
        spans = [step, 4 * step, 16 * step, 3_600, 4 * 3_600, DAY_SECONDS]
    return tuple(sorted({max(1, span // step) for span in spans}))


def evidence(
    marginal: NDArray[np.float32], joint: NDArray[np.float32], channels: Sequence[Channel]
) -> NDArray[np.float32]:
    """What each channel sees at each step, (users, steps, channels).

    Args: marginal, joint: (users, steps, metrics) deviations of each metric by itself, and of each
    given those before it in the step: the latter are independent if all is well, and may be added.
    """
    metrics = marginal.shape[-1]
    total = joint.sum(-1) / np.float32(np.sqrt(metrics))
    cut = np.clip(joint, -ENERGY_CUT, ENERGY_CUT)
    energy = (cut * cut - 1).sum(-1) / np.float32(np.sqrt(2 * metrics))
    parts = []
    for channel in channels:
        if channel.sign == 0:
            parts.append(energy)
        else:
            parts.append(
                channel.sign * (total if channel.metric < 0 else marginal[..., channel.metric])
            )
    return np.stack(parts, axis=-1)


def window_sums(
    before: NDArray[np.float32], now: NDArray[np.float32], lengths: Sequence[int]
) -> NDArray[np.float32]:
    """Sums over the windows that end at each step of `now`, (users, steps, channels, lengths).

    Args: before: (users, longest - 1, channels) the steps that came before.
    """
    joined = np.concatenate([before, now], axis=1)
    running = np.cumsum(joined, axis=1, dtype=np.float64)
    running = np.concatenate([np.zeros_like(running[:, :1]), running], axis=1)
    steps, lead = now.shape[1], before.shape[1]
    ends = running[:, lead + 1 : lead + 1 + steps]
    sums = [ends - running[:, lead + 1 - length : lead + 1 - length + steps] for length in lengths]
    return np.stack(sums, axis=-1).astype(np.float32)


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
    cut = np.where(known[:, :, None, None], np.clip(sums, low, high), 0)
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


@dataclass(frozen=True, slots=True)
class Best:
    """The best channel of each window: surprise (users, steps, lengths) float32, its index int8."""

    surprise: NDArray[np.float32]
    channel: NDArray[np.int8]


def best_channel(deviation: NDArray[np.float32], maps: Sequence[Sequence[TailMap]]) -> Best:
    """Calibrate each channel and length, and keep the most surprising channel.

    Args: deviation (users, steps, channels, lengths); maps[channel][length].
    """
    users, steps, channels, lengths = deviation.shape
    best = np.full((users, steps, lengths), -1, dtype=np.float32)
    which = np.zeros((users, steps, lengths), dtype=np.int8)
    for channel in range(channels):
        for length in range(lengths):
            found = maps[channel][length](deviation[:, :, channel, length])
            better = found > best[..., length]
            best[..., length][better] = found[better]
            which[..., length][better] = channel
    return Best(best, which)


def covered(surprise: NDArray[np.float32], lengths: Sequence[int]) -> NDArray[np.float32]:
    """The most surprising window that covers each step, (users, steps).

    Args: surprise (users, steps, lengths) of the windows that end at each step.
    """
    out = surprise[..., 0].copy()
    steps = out.shape[1]
    for index, length in enumerate(lengths):
        found, reach = surprise[..., index].copy(), 1
        while reach < length:  # doubling: the highest of the next `length` ends
            shift = min(reach, length - reach)
            if shift < steps:
                found[:, : steps - shift] = np.maximum(found[:, : steps - shift], found[:, shift:])
            reach += shift
        np.maximum(out, found, out=out)
    return out
