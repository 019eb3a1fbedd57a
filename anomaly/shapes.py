"""Courses: how unlike every stretch of its own past a stretch of a series is.

A forecast of the next value follows a change of course after a few steps, so that no single value
shows it. A window compared with all windows of the past does not follow: what lies far from its
nearest neighbour there is a discord (Keogh, Lin & Fu 2005). Windows of several lengths are compared
in two ways, as they are and less their mean, so that both a new level and a new course at a known
level show. Distances are judged by those that the past itself reaches, each part of it held against
the others; nothing is learnt but the past, so that one series of a few days suffices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from anomaly.calibration import fit_tail
from anomaly.scan import MOST_SURPRISE, covered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from anomaly.calibration import TailMap

    _Numbered = Iterable[
        tuple[NDArray[np.int64], NDArray[np.float32]]
    ]  # ends, and windows as numbers
    _Judge = Callable[["_Known", _Numbered, int], NDArray[np.float32]]

LENGTHS = (4, 8, 16, 32, 64, 128, 256)  # steps, whatever a step is: each twice the one before
SHORT = (1, 2)  # of several metrics: which values go together no longer window tells so sharply
LONGEST = LENGTHS[-1]
POINTS = 32  # a longer window is read as so many means
NUMBERS = 64  # of a window; more are projected to so many, which keeps distances (Johnson & Lindenstrauss 1984)
WINDOWS = 1_024  # of each length are remembered, evenly spread over the past
LEAST_WINDOWS = 32  # with fewer, nothing is said
LEAST_LENGTHS = 2.2  # a past shorter than this many windows says nothing of them
LEAST_KNOWN = 0.9  # of its steps; what is missing stands as it stood before
FOLDS = 4  # parts of the past, each held against the others
WAYS = 2  # as they are, and less their mean
CUT = 20.0  # usual deviations beyond which a value says nothing more
SD_SHARE = 0.5  # half of what is seen may be one value: a deviation is at least this share of the standard one
FLAT = 0.1  # of its level, for a metric that never moved
AT_ONCE = 8_192  # windows held as numbers at the same time


def lengths_of(metrics: int) -> tuple[int, ...]:
    """Lengths of windows in steps. Of one metric, the shortest would tell no more than its deviation."""
    return LENGTHS if metrics == 1 else SHORT + LENGTHS


def weight_of(metrics: int) -> float:
    """What courses count for in a step's evidence: each length is a scale, its deviation is one more."""
    scales = len(lengths_of(metrics))
    return scales / (1 + scales)


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What courses are measured by: (metrics,) median and usual deviation of history."""

    place: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def none(cls) -> Yardstick:
        """Courses are not looked at."""
        return cls(np.zeros(0, np.float32), np.ones(0, np.float32))

    @classmethod
    def fit(cls, values: NDArray[np.float32], known: NDArray[np.bool_]) -> Yardstick:
        """From history (users, steps, metrics)."""
        pairs = [_middle(values[..., m][known[..., m]]) for m in range(values.shape[-1])]
        place, spread = np.array(pairs, dtype=np.float32).T
        return cls(place, spread)

    def course(self, values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Deviations from the median, (users, steps, metrics); NaN where unknown."""
        z = np.clip((values - self.place) / self.spread, -CUT, CUT)
        return np.where(known, z, np.nan).astype(np.float32)


def _middle(found: NDArray[np.float32]) -> tuple[float, float]:
    if not len(found):
        return 0.0, 1.0
    place = float(np.median(found))
    robust = 1.4826 * float(np.median(np.abs(found - place)))
    spread = max(robust, SD_SHARE * float(found.std(dtype=np.float64)))
    return place, spread if spread > 1e-9 else max(FLAT * abs(place), 1e-3)


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered of each user's course.

    last: (users, LONGEST - 1, metrics) the latest deviations, NaN where unknown. windows: (users,
    lengths, WINDOWS, WAYS * NUMBERS); ends: (users, lengths, WINDOWS) int32, the step at which each
    ended, counted from the user's first, -1 where there is none. stride: (users, lengths) int32:
    windows whose ends divide by it are kept. steps: (users,) int32 seen so far.
    """

    last: NDArray[np.float32]
    windows: NDArray[np.float32]
    ends: NDArray[np.int32]
    stride: NDArray[np.int32]
    steps: NDArray[np.int32]

    @classmethod
    def empty(cls, users: int, metrics: int, looked_at: bool = True) -> Past:
        """Nothing is remembered, and nothing ever will be where courses are not looked at."""
        lengths, longest = (len(lengths_of(metrics)), LONGEST - 1) if looked_at else (0, 0)
        return cls(
            np.full((users, longest, metrics), np.nan, np.float32),
            np.zeros((users, lengths, WINDOWS, WAYS * NUMBERS), np.float32),
            np.full((users, lengths, WINDOWS), -1, np.int32),
            np.ones((users, lengths), np.int32),
            np.zeros(users, np.int32),
        )

    def of(self, row: int) -> _Own:
        """One user's."""
        return _Own(
            self.last[row], self.windows[row], self.ends[row], self.stride[row],
            int(self.steps[row]),
        )  # fmt: skip

    def put(self, row: int, one: _Own) -> None:
        """Write one user's past into these arrays."""
        self.last[row], self.steps[row] = one.last, one.steps
        self.windows[row], self.ends[row], self.stride[row] = one.windows, one.ends, one.stride


@dataclass(frozen=True, slots=True)
class _Own:
    """One user's past: see `Past`."""

    last: NDArray[np.float32]
    windows: NDArray[np.float32]
    ends: NDArray[np.int32]
    stride: NDArray[np.int32]
    steps: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of the windows, in steps."""
        return lengths_of(self.last.shape[-1])

    def told(self, number: int) -> NDArray[np.int64]:
        """Which remembered windows of this length there are; none if they are too few."""
        found = np.flatnonzero(self.ends[number] >= 0)
        enough = len(found) >= LEAST_WINDOWS and self.steps >= LEAST_LENGTHS * self.lengths[number]
        return found if enough else found[:0]


def scan_courses(
    course: NDArray[np.float32], past: Past
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Past]:
    """Hold a stretch of time against each user's past, then remember it.

    Args: course (users, steps, metrics), NaN where unknown.
    Returns: evidence (users, steps); (users,) whose past said anything; the past after it.
    """
    users, steps, metrics = course.shape
    evidence = np.zeros((users, steps), np.float32)
    judged = np.zeros(users, dtype=bool)
    after = Past.empty(users, metrics)
    for row in range(users):
        own = past.of(row)
        joined = np.concatenate([own.last, course[row]])
        judged[row], evidence[row] = _judged(own, joined, steps, _against_all)
        after.put(row, _remembered(own, joined, steps))
    return evidence, judged, after


def cross_fitted(
    course: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Evidence of history, each of four parts held against the others: as fresh months are.

    Args: course (users, steps, metrics).
    Returns: (users, steps); (users,) of whom anything could be said.
    """
    users, steps, metrics = course.shape
    evidence = np.zeros((users, steps), np.float32)
    judged = np.zeros(users, dtype=bool)
    nothing = Past.empty(1, metrics).of(0)
    for row in range(users):
        joined = np.concatenate([nothing.last, course[row]])
        own = _remembered(nothing, joined, steps)
        judged[row], evidence[row] = _judged(own, joined, steps, _against_others)
    return evidence, judged


def joined_evidence(
    deviations: NDArray[np.float32],
    courses: NDArray[np.float32],
    judged: NDArray[np.bool_],
    metrics: int,
) -> NDArray[np.float32]:
    """The mean over scales, (users, steps): how far from its forecast a step lies is one of them, how
    unlike its past each length is are the others; the first alone for users whose past says nothing
    yet.
    """
    weight = weight_of(metrics)
    mean = (1 - weight) * deviations + weight * courses
    return np.where(judged[:, None], mean, deviations).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Known:
    """Remembered windows of one length, (windows, WAYS * NUMBERS), and the steps at which they ended.

    steps: how many their user has been seen for.
    """

    windows: NDArray[np.float32]
    ends: NDArray[np.int32]
    length: int
    steps: int

    def usual(self) -> NDArray[np.float32]:
        """How far each lies from the nearest in another part of the past, (WAYS, windows)."""
        return self.held_apart(self.windows, self.ends)

    def held_apart(
        self, seen: NDArray[np.float32], when: NDArray[np.int32] | NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """`_nearest` among windows of other parts of the past that share no step with it."""
        apart = (_fold(when, self.steps)[:, None] != _fold(self.ends, self.steps)) & (
            np.abs(when[:, None] - self.ends) >= self.length
        )
        apart |= ~apart.any(1, keepdims=True)  # a past too short to part: all of it
        lines = [
            np.where(apart, _squares(*pair), np.inf).min(1)
            for pair in _each_way(seen, self.windows)
        ]
        return np.asarray(np.sqrt(np.stack(lines)), dtype=np.float32)


def _judged(
    own: _Own, joined: NDArray[np.float32], steps: int, judge: _Judge
) -> tuple[bool, NDArray[np.float32]]:
    """Whether the past says anything of the last `steps` of joined, and what: the mean over ways and
    lengths, (steps,).
    """
    lead, found = len(joined) - steps, []
    for number, length in enumerate(own.lengths):
        told = own.told(number)
        if len(told):
            known = _Known(own.windows[number, told], own.ends[number, told], length, own.steps)
            windows = ((at - lead, seen) for at, seen in _windows(joined, length, lead))
            ways = WAYS if length > 1 else 1  # less its mean, a single step is nothing
            lines = judge(known, windows, steps)[:ways]
            found.append(np.mean([_spread(line, length) for line in lines], axis=0))
    evidence = np.mean(found, axis=0) if found else np.zeros(steps)
    return bool(found), evidence.astype(np.float32)


def _against_all(known: _Known, windows: _Numbered, steps: int) -> NDArray[np.float32]:
    """Surprise of windows of fresh steps, (WAYS, steps)."""
    far = np.zeros((WAYS, steps), np.float32)
    for at, seen in windows:
        far[:, at] = _nearest(seen, known.windows)
    return np.stack([tail(line) for tail, line in zip(_tails(known.usual()), far, strict=True)])


def _against_others(known: _Known, windows: _Numbered, steps: int) -> NDArray[np.float32]:
    """Surprise of the past's own windows, (WAYS, steps), each part judged by the others."""
    far = np.zeros((WAYS, steps), np.float32)
    for at, seen in windows:
        far[:, at] = known.held_apart(seen, at)
    usual, part, fold_of = known.usual(), _fold(known.ends, steps), _fold(np.arange(steps), steps)
    surprise = np.zeros_like(far)
    for fold in range(FOLDS):
        inside = fold_of == fold
        for way, tail in enumerate(_tails(usual[:, part != fold])):
            surprise[way, inside] = tail(far[way, inside])
    return surprise


def _windows(
    joined: NDArray[np.float32], length: int, first: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Windows that end at steps from `first` on, a part at a time: where, and as numbers.

    A window of which too little is known, or that begins before anything is known, is left out.
    """
    known = np.logical_or.reduce(np.isfinite(joined), axis=1)
    filled = _carried(joined)
    counted = np.concatenate([[0], np.cumsum(known)])
    begun = int(np.argmax(known)) if known.any() else len(known)
    ends = np.arange(max(first, begun + length - 1), len(joined))
    ends = ends[counted[ends + 1] - counted[ends + 1 - length] >= LEAST_KNOWN * length]
    running = np.concatenate(
        [np.zeros((1, joined.shape[1])), np.cumsum(filled, 0, dtype=np.float64)]
    )
    edges = np.round(np.linspace(0, length, min(length, POINTS) + 1)).astype(np.int64)
    for begin in range(0, len(ends), AT_ONCE):
        at = ends[begin : begin + AT_ONCE]
        bounds = running[(at + 1 - length)[:, None] + edges]
        points = (np.diff(bounds, axis=1) / np.diff(edges)[:, None]).astype(np.float32)
        centred = points - points.mean(1, keepdims=True)
        yield at, np.concatenate([_numbers(points), _numbers(centred)], axis=1)


def _carried(joined: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unknown values as the last known one before them, 0 before the first."""
    known = np.isfinite(joined)
    rows = np.where(known, np.arange(len(joined))[:, None], 0)
    np.maximum.accumulate(rows, axis=0, out=rows)
    return np.nan_to_num(np.take_along_axis(joined, rows, axis=0))


def _numbers(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(windows, points, metrics) as (windows, NUMBERS): padded with zeros, or projected."""
    flat = points.reshape(len(points), -1)
    width = flat.shape[1]
    if width <= NUMBERS:
        return np.pad(flat, ((0, 0), (0, NUMBERS - width)))
    return np.asarray(flat @ _projection(width), dtype=np.float32)


@lru_cache(maxsize=16)
def _projection(width: int) -> NDArray[np.float32]:
    found = np.random.default_rng(0).standard_normal((width, NUMBERS)) / np.sqrt(NUMBERS)
    return np.asarray(found, dtype=np.float32)


def _nearest(seen: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """The distance of each window to the nearest known one, in both ways, (WAYS, windows)."""
    lines = [_squares(*pair).min(1) for pair in _each_way(seen, known)]
    return np.asarray(np.sqrt(np.stack(lines)), dtype=np.float32)


def _each_way(
    seen: NDArray[np.float32], known: NDArray[np.float32]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return [
        (
            seen[:, way * NUMBERS : (way + 1) * NUMBERS],
            known[:, way * NUMBERS : (way + 1) * NUMBERS],
        )
        for way in range(WAYS)
    ]


def _squares(seen: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances, (windows, known windows)."""
    far = np.square(seen).sum(1)[:, None] + np.square(known).sum(1) - 2 * (seen @ known.T)
    return np.asarray(np.maximum(far, 0), dtype=np.float32)


def _fold(when: NDArray[np.int32] | NDArray[np.int64], steps: int) -> NDArray[np.int64]:
    return np.asarray(when, dtype=np.int64) * FOLDS // steps


def _tails(far: NDArray[np.float32]) -> list[TailMap]:
    return [fit_tail(line) for line in far]


def _spread(surprise: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Give each window's surprise to the steps it covers: half by the highest, which says whether a
    step lies in an odd window, half by the mean, which says whether most that hold it are odd.
    """
    told = np.minimum(surprise, MOST_SURPRISE).astype(np.float32)
    highest = covered(told[None], length)[0]
    running = np.concatenate([[0.0], np.cumsum(told, dtype=np.float64)])
    first = np.arange(len(told))
    last = np.minimum(first + length, len(told))
    mean = (running[last] - running[first]) / (last - first)
    return np.asarray((highest + mean) / 2, dtype=np.float32)


def _remembered(own: _Own, joined: NDArray[np.float32], steps: int) -> _Own:
    """Windows that end in the last `steps` of joined, added to those remembered; fewer of all, evenly,
    where there are too many. The same whether a stretch comes at once or in parts.
    """
    lead = len(joined) - steps
    windows, ends, stride = (
        np.zeros_like(own.windows),
        np.full_like(own.ends, -1),
        own.stride.copy(),
    )
    for number, length in enumerate(own.lengths):
        old = own.ends[number] >= 0
        kept, when = [own.windows[number, old]], [own.ends[number, old]]
        for at, seen in _windows(joined, length, lead):
            since = at - lead + own.steps
            regular = since % stride[number] == 0
            kept.append(seen[regular])
            when.append(since[regular].astype(np.int32))
        all_kept, all_when = np.concatenate(kept), np.concatenate(when)
        while len(all_when) > WINDOWS:
            stride[number] *= 2
            regular = all_when % stride[number] == 0
            all_kept, all_when = all_kept[regular], all_when[regular]
        windows[number, : len(all_when)], ends[number, : len(all_when)] = all_kept, all_when
    return _Own(joined[len(joined) - len(own.last) :], windows, ends, stride, own.steps + steps)
