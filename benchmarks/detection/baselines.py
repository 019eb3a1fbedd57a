"""Simple methods to beat, from numpy and scikit-learn, each with one setting for all sets.

A method is `score(laid, first) -> (users, steps from first on)`, higher is odder, learnt from the
steps before `first`. `detector` makes `detect(frame, train_until) -> flags, scores` of it: the method
learns from all of history; its threshold comes from history's last quarter, scored by the same
method learnt from the first three, so that no method is judged on what it was fitted to.

Threshold: a Gumbel law through the quartiles of the highest scores of blocks; with 20 users or more
a block is a user's month and the level is passed 20 times in 1,000 (the product's budget), else the
quarter is cut in twenty and the level is passed once in 10,000 steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning

from anomaly.months import DAYS_PER_MONTH
from benchmarks.detection.layout import DAY, Laid, lay_out, runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

Detect = Callable[[pd.DataFrame, pd.Timestamp], tuple[pd.DataFrame, pd.DataFrame]]
Score = Callable[[Laid, int], "NDArray[np.float32]"]
Learn = Callable[["NDArray[np.float32]"], Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]]

MONTH = DAYS_PER_MONTH * DAY
WEEK_HOURS = 168
BUDGET = 20 / 1_000  # false flags in a user-month
FEW_USERS = 20
RARE_STEPS = 10_000
BLOCKS = 20
HIGHEST_Z = 20.0  # in a window, so that one value is not all of it
LEAST_SPREAD, LEAST_OF_ALL = (
    0.5,
    0.1,
)  # of the standard deviation: half of what is seen may be one value
SEASON_DAYS = 21  # of history, for a weekly season to be taken off
SAMPLE = 5_000  # windows that a method learns from
CHUNK = 20_000  # windows scored at once
LONGEST, SHORTEST, OTHERWISE = 300, 8, 64  # steps of a window on grids finer than an hour
LEAST_CORRELATION = 0.2
MOST_NUMBERS = 600  # in a window of all metrics; with more, it is shorter


def detector(score: Score) -> Detect:
    """Give a method its threshold, and flags."""

    def detect(frame: pd.DataFrame, train_until: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
        laid = lay_out(frame, train_until)
        quarter = laid.first - laid.first // 4
        history = laid.until(laid.first, quarter)
        held = score(history, quarter)
        level = threshold(held, history.seen[:, quarter:], laid.step)
        return _tables(laid, score(laid, laid.first) / level)

    return detect


def threshold(scores: NDArray[np.float32], seen: NDArray[np.bool_], step: float) -> float:
    """Where flags begin: see the module. scores, seen: (users, steps) of held-out history."""
    users, steps = scores.shape
    many = users >= FEW_USERS
    count = max(1, round(steps * step / MONTH)) if many else min(BLOCKS, steps)
    bounds = np.linspace(0, steps, count + 1).astype(int)
    low = float(scores.min())
    shown = np.where(seen, scores, low)
    highest = np.maximum.reduceat(shown, bounds[:-1], axis=1)
    known = np.logical_or.reduceat(seen, bounds[:-1], axis=1)
    rate = BUDGET * steps * step / MONTH / count if many else steps / count / RARE_STEPS
    lower, middle, upper = np.quantile(highest[known], [0.25, 0.5, 0.75])
    scale = (upper - lower) / (np.log(np.log(4)) - np.log(np.log(4 / 3)))
    place = middle + scale * np.log(np.log(2))
    level = max(place - scale * np.log(min(rate, 1.0)), float(highest.max()) * 1e-3)
    return float(level) if level > 0 else 1.0


def _tables(laid: Laid, scores: NDArray[np.float32]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Flags and scores as frames; a score of 1 is the threshold."""
    times, seen = laid.times[laid.first :], laid.seen[:, laid.first :]
    row, at = np.nonzero(seen)
    named = np.array(laid.users, dtype=object)
    table = pd.DataFrame({
        "user_id": named[row], "observed_at": times[at], "score": scores[row, at],
    })  # fmt: skip
    step = pd.Timedelta(seconds=laid.step)
    flags = [
        (user, times[a], times[b] + step, float(line[a : b + 1].max()))
        for user, line, known in zip(laid.users, scores, seen, strict=True)
        for a, b in runs(known & (line >= 1))
    ]
    return pd.DataFrame(flags, columns=["user_id", "start", "end", "score"]), table


def residuals(laid: Laid, first: int) -> NDArray[np.float32]:
    """Values less the user's median (by hour or day of the week where three weeks are known), over
    1.4826 times the median absolute deviation, or half the standard deviation if that is more, or a
    tenth of everyone's; 0 where unknown. (users, steps, metrics); all from steps before `first`.
    """
    slot = _slots(laid, first)
    centred = np.empty_like(laid.amounts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # users without history
        known = laid.amounts[:, :first]
        for place in np.unique(slot):
            own = np.nanmedian(known[:, slot[:first] == place], axis=1, keepdims=True)
            everyone = np.nanmedian(own, axis=0, keepdims=True)
            middle = np.nan_to_num(np.where(np.isnan(own), everyone, own))
            centred[:, slot == place] = laid.amounts[:, slot == place] - middle
        past = centred[:, :first]
        spread = 1.4826 * np.nanmedian(np.abs(past), axis=1, keepdims=True)
        own = np.fmax(spread, LEAST_SPREAD * np.nanstd(past, axis=1, keepdims=True))
        everyone = LEAST_OF_ALL * np.nanstd(past, axis=(0, 1), keepdims=True)
    scale = np.fmax(np.fmax(own, everyone), np.float32(1e-6))
    found: NDArray[np.float32] = np.nan_to_num(centred / scale).astype(np.float32)
    return found


def _slots(laid: Laid, first: int) -> NDArray[np.int64]:
    """The slot of the week of each step, (steps,); all alike where no weekly season can be known."""
    long_enough = (laid.times[first - 1] - laid.times[0]) >= pd.Timedelta(days=SEASON_DAYS)
    if laid.step < 3_600 or not long_enough:
        return np.zeros(len(laid.times), dtype=np.int64)
    hour = laid.times.hour if laid.step < DAY else 0
    return np.asarray(laid.times.day_of_week * 24 + hour, dtype=np.int64)


def robust_z(laid: Laid, first: int) -> NDArray[np.float32]:
    """The furthest metric from its median, in robust deviations (Iglewicz & Hoaglin 1993)."""
    worst: NDArray[np.float32] = np.abs(residuals(laid, first)[:, first:]).max(axis=-1)
    return worst


def windowed_z(laid: Laid, first: int) -> NDArray[np.float32]:
    """Robust z through windows against the user's own history, for behaviour by the hour.

    Of values as log(1 + x): deviation from the median of that hour of the week in the user's history,
    over the metric's deviation; the highest metric, cut to 0..8; summed over 6, 24 and 72 hours; each
    sum against mean and deviation of the user's own sums; ranked among all users' history; given to
    every hour that the window covers; the highest length.
    """
    slot = np.asarray(laid.times.day_of_week * 24 + laid.times.hour)
    amounts = np.where(laid.logged, laid.amounts, np.log1p(np.maximum(laid.amounts, 0)))
    x = np.where(laid.seen[:, :, None], np.nan_to_num(amounts), np.nan)
    deviation = np.empty_like(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # users without history
        for hour in range(WEEK_HOURS):
            middle = np.nanmedian(x[:, :first][:, slot[:first] == hour], axis=1, keepdims=True)
            deviation[:, slot == hour] = x[:, slot == hour] - np.nan_to_num(middle)
        spread = np.nanstd(x[:, :first], axis=1, keepdims=True)  # NaN: no history, no deviation
    worst = np.clip(np.nan_to_num(deviation / (spread + 0.1)).max(axis=-1), 0, 8)
    lengths = [_against_own(worst, length, first)[:, first:] for length in (6, 24, 72)]
    highest: NDArray[np.float32] = np.max(lengths, axis=0)
    return highest


def _against_own(worst: NDArray[np.float32], length: int, first: int) -> NDArray[np.float32]:
    """Sums over trailing windows, ranked, given to every step they cover: (users, steps)."""
    total = np.cumsum(np.pad(worst, ((0, 0), (length, 0))), axis=1, dtype=np.float64)
    sums = total[:, length:] - total[:, :-length]
    own = sums[:, WEEK_HOURS:first]
    sums = (sums - own.mean(axis=1, keepdims=True)) / (own.std(axis=1, keepdims=True) + 0.2)
    usual = np.sort(sums[:, WEEK_HOURS:first].ravel())
    rank = -np.log10(1 - np.searchsorted(usual, sums) / (len(usual) + 1))
    surprise = np.where(sums > usual[-1], 9 + sums - usual[-1], rank).astype(np.float32)
    covered: NDArray[np.float32] = surprise.copy()
    for back in range(1, length):
        np.maximum(covered[:, :-back], surprise[:, back:], out=covered[:, :-back])
    return covered


def forest(sample: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Isolation forest of windows (Liu et al. 2008)."""
    model = IsolationForest(random_state=0).fit(sample)
    return lambda rows: -model.score_samples(rows)


def components(sample: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What the main components of windows, 90 % of their variance, cannot say (Shyu et al. 2003)."""
    model = PCA(n_components=0.9, svd_solver="covariance_eigh").fit(sample)
    return lambda rows: np.sqrt(
        ((rows - model.inverse_transform(model.transform(rows))) ** 2).sum(axis=1)
    )


def means(sample: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Distance of windows to the nearest of 20 means (Yairi et al. 2001)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer windows that differ than means
        model = KMeans(min(20, len(sample)), n_init=1, random_state=0).fit(sample)
    return lambda rows: model.transform(rows).min(axis=1)


def by_windows(learn: Learn) -> Score:
    """Score windows of robust deviations, all metrics together; a step has the mean of those that
    hold it. A window lasts a day of hours, a week of days, on finer grids the period found.
    """

    def score(laid: Laid, first: int) -> NDArray[np.float32]:
        z = np.clip(residuals(laid, first), -HIGHEST_Z, HIGHEST_Z)
        length = window_length(z[:, :first], laid.step)
        length = min(length, max(SHORTEST, MOST_NUMBERS // z.shape[2]))
        windows = np.lib.stride_tricks.sliding_window_view(z, length, axis=1)
        starts = np.argwhere(laid.seen[:, : first - length + 1])
        spread = np.random.default_rng(0).permutation(len(starts))[:SAMPLE]
        user, at = starts[np.sort(spread)].T
        judge = learn(windows[user, at].reshape(len(user), -1))
        begin = max(first - length + 1, 0)
        later = windows[:, begin:]
        found = np.empty(later.shape[:2], dtype=np.float32)
        each = max(1, CHUNK // len(later))
        for start in range(0, later.shape[1], each):
            part = later[:, start : start + each]
            flat = judge(part.reshape(part.shape[0] * part.shape[1], -1))
            found[:, start : start + each] = flat.reshape(part.shape[:2])
        return _spread_over_steps(found, length)[:, first - begin :]

    return score


def _spread_over_steps(found: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Mean over the windows that hold each step: (users, windows) to (users, windows + length - 1)."""
    total = np.cumsum(np.pad(found, ((0, 0), (length, length - 1))), axis=1, dtype=np.float64)
    count = np.cumsum(np.pad(np.ones(found.shape[1]), (length, length - 1)))
    mean = (total[:, length:] - total[:, :-length]) / (count[length:] - count[:-length])
    return mean.astype(np.float32)


def window_length(history: NDArray[np.float32], step: float) -> int:
    """Steps of a window: 7 days, 24 hours, or the lag of the highest peak of autocorrelation."""
    most = max(2, int(history.shape[1]) // 8)
    if step >= 3_600:
        return min(7 if step >= DAY else 24, most)
    line = np.abs(history).mean(axis=(0, 2)) if history.shape[2] > 1 else history[0, :, 0]
    line = line - line.mean()
    power = np.abs(np.fft.rfft(line, 2 * len(line))) ** 2
    correlation = np.fft.irfft(power)[: min(LONGEST, most) + 1]
    correlation = correlation / (correlation[0] or 1.0)
    inner = correlation[1:-1]
    peak = (inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner > LEAST_CORRELATION)
    lags = np.flatnonzero(peak) + 1
    lags = lags[lags >= SHORTEST]
    return int(lags[np.argmax(correlation[lags])]) if len(lags) else min(OTHERWISE, most)
