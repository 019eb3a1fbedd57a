"""Drives the scan over a stretch of time, a chunk at a time, learning each user's own history of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly import scan, shapes
from anomaly.panel import DAY_SECONDS
from anomaly.states import BIN_WIDTH, HISTORY_BINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from anomaly.model import Model
    from anomaly.panel import Grid
    from anomaly.scan import Moments, Usual
    from anomaly.states import States

WEEK = 7


def chunks_of(grid: Grid, timezone: str) -> list[tuple[int, int]]:
    """Stretches (first, last) after which own history is learnt: weeks counted from each month's
    first day, so that a month always falls into the same ones; days on fine grids.
    """
    local = pd.DatetimeIndex(grid.times.astype("datetime64[s]"), tz="UTC").tz_convert(timezone)
    month = (local.year * 12 + local.month).to_numpy()
    part = (local.day.to_numpy() - 1) // (1 if grid.step < scan.FINE_STEP else WEEK)
    key = month * 64 + part
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1)).tolist()
    return list(zip(starts, [*starts[1:], len(grid)], strict=True))


@dataclass(frozen=True, slots=True)
class Chunk:
    """Steps first to last (exclusive): window sums against own history (users, steps, 1 + metrics,
    lengths), the raw sums, and the moments after it.
    """

    first: int
    last: int
    sums: NDArray[np.float32]
    deviation: NDArray[np.float32]
    after: Moments


def chunk_deviations(
    joint: NDArray[np.float32],
    known: NDArray[np.bool_],
    chunks: Sequence[tuple[int, int]],
    step: int,
    states: States,
    directions: Sequence[str],
    lengths: Sequence[int],
    usual: Usual,
    own_history: bool = True,
) -> Iterator[Chunk]:
    """Window sums of each chunk against the user's own history before it.

    Args: joint (users, steps, metrics) deviations of each metric given those before it in the step,
    common shock taken off; known (users, steps): where the user was present and something was known.
    own_history: False sets everyone against what is usual for all.
    """
    own, nobody = states.own, scan.Moments.empty(*states.own.mean.shape)
    before = scan.seen_at(scan.heeded(states.recent, directions), step)
    for first, last in chunks:
        now = scan.seen_at(scan.heeded(joint[:, first:last], directions), step)
        if not known[:, first:last].all():
            now[~known[:, first:last]] = 0
        sums = scan.window_sums(before, now, lengths)
        deviation = scan.against_own(sums, own if own_history else nobody, usual)
        days = (last - first) * step / DAY_SECONDS
        own = scan.learn(own, sums, known[:, first:last], usual, days)
        joined = np.concatenate([before, now], axis=1)
        before = joined[:, joined.shape[1] - before.shape[1] :]
        yield Chunk(first, last, sums, deviation, own)


@dataclass(frozen=True, slots=True)
class Scanned:
    """evidence of each step; by_course: what the course of values alone says, 0 where it is not looked
    at; both (users, steps). states: with what was learnt.
    """

    evidence: NDArray[np.float32]
    by_course: NDArray[np.float32]
    states: States


def scan_panel(
    model: Model,
    grid: Grid,
    joint: NDArray[np.float32],
    known: NDArray[np.bool_],
    course: NDArray[np.float32],
    states: States,
) -> Scanned:
    """Scan a stretch of time.

    Args: joint (users, steps, metrics) deviations; known (users, steps); course: values by the model's
        yardstick, empty where courses are not looked at.
    """
    users, steps = known.shape
    lengths, own = model.lengths, states.own
    surprise = scan.time_last((users, steps, scan.VIEWS, len(lengths)))
    chunks = chunks_of(grid, model.timezone)
    for chunk in chunk_deviations(
        joint,
        known,
        chunks,
        grid.step,
        states,
        model.directions,
        lengths,
        model.usual,
        model.looking.own_history,
    ):
        at = np.s_[:, chunk.first : chunk.last]
        looks = scan.ways(chunk.deviation, model.directions)
        surprise[at] = scan.surprises(looks, model.tails)
        own = chunk.after
    surprise[~known] = 0
    evidence = scan.evidence(surprise, lengths, grid.step, model.looking.combine)
    by_course, courses = np.zeros_like(evidence), states.courses
    if model.looking.courses:
        by_course, judged, courses = shapes.scan_courses(course, courses)
        evidence = shapes.joined_evidence(evidence, by_course, judged, len(model.metrics))
    evidence = np.where(known, evidence, 0).astype(np.float32)
    after = replace(
        states,
        own=own,
        recent=_recent(states, joint, known),
        past=_past(states, evidence, known),
        courses=courses,
    )
    return Scanned(evidence, by_course, after)


def _recent(
    states: States, joint: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    longest = states.recent.shape[1]
    last = np.where(known[:, -longest:, None], joint[:, -longest:], 0)
    joined = np.concatenate([states.recent[:, last.shape[1] :], last], axis=1)
    return joined.astype(np.float32, copy=False)


def _past(
    states: States, evidence: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Counts of own evidence so far, a bin for each BIN_WIDTH."""
    bins = np.minimum((evidence / BIN_WIDTH).astype(np.int64), HISTORY_BINS - 1)
    cells = (bins + HISTORY_BINS * np.arange(len(bins))[:, None])[known]
    fresh = np.bincount(cells, minlength=states.past.size).reshape(states.past.shape)
    return (states.past + fresh).astype(np.float32)
