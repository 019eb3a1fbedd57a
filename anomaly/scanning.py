"""Drives the scan over a stretch of time, a chunk at a time, learning each user's own history of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly import scan
from anomaly.panel import DAY_SECONDS
from anomaly.states import BIN_WIDTH, HISTORY_BINS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from anomaly.model import Model
    from anomaly.panel import Grid
    from anomaly.scan import Channel, Moments, Usual
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
    """Steps first to last (exclusive): window sums against own history (users, steps, channels,
    lengths), the raw sums, and the moments after it.
    """

    first: int
    last: int
    sums: NDArray[np.float32]
    deviation: NDArray[np.float32]
    after: Moments


def chunk_deviations(
    marginal: NDArray[np.float32],
    joint: NDArray[np.float32],
    known: NDArray[np.bool_],
    chunks: Sequence[tuple[int, int]],
    step: int,
    states: States,
    channels: Sequence[Channel],
    lengths: Sequence[int],
    usual: Usual,
) -> Iterator[Chunk]:
    """Window sums of each chunk against the user's own history before it.

    Args: marginal, joint (users, steps, metrics) deviations, common shock taken off; known (users,
    steps): where the user was present and something was known.
    """
    metrics = marginal.shape[-1]
    own = states.own
    before = scan.evidence(states.recent[..., :metrics], states.recent[..., metrics:], channels)
    before[~states.recent.any(-1)] = 0  # nothing was known there: no energy lacks
    for first, last in chunks:
        now = scan.evidence(marginal[:, first:last], joint[:, first:last], channels)
        now[~known[:, first:last]] = 0
        sums = scan.window_sums(before, now, lengths)
        deviation = scan.against_own(sums, own, usual)
        days = (last - first) * step / DAY_SECONDS
        own = scan.learn(own, sums, known[:, first:last], usual, days)
        joined = np.concatenate([before, now], axis=1)
        before = joined[:, joined.shape[1] - before.shape[1] :]
        yield Chunk(first, last, sums, deviation, own)


@dataclass(frozen=True, slots=True)
class Scanned:
    """best: see scan.Best, over all steps. evidence: (users, steps) of the best covering window.
    seen: (users, steps, channels) what each channel saw.
    """

    best: scan.Best
    evidence: NDArray[np.float32]
    seen: NDArray[np.float32]


def scan_panel(
    model: Model,
    grid: Grid,
    marginal: NDArray[np.float32],
    joint: NDArray[np.float32],
    known: NDArray[np.bool_],
    states: States,
) -> tuple[Scanned, States]:
    """Scan a stretch of time; returns the states with what was learnt of own history."""
    users, steps = known.shape
    lengths, channels = model.lengths, model.channels
    surprise = np.empty((users, steps, len(lengths)), np.float32)
    channel = np.empty((users, steps, len(lengths)), np.int8)
    own = states.own
    chunks = chunks_of(grid, model.timezone)
    for chunk in chunk_deviations(
        marginal, joint, known, chunks, grid.step, states, channels, lengths, model.usual
    ):
        at = np.s_[:, chunk.first : chunk.last]
        best = scan.best_channel(chunk.deviation, model.tails)
        surprise[at] = np.where(known[at][..., None], best.surprise, 0)
        channel[at] = best.channel
        own = chunk.after
    evidence = np.where(known, scan.covered(surprise, lengths), 0).astype(np.float32)
    seen = scan.evidence(marginal, joint, channels)
    seen[~known] = 0
    after = replace(
        states,
        own=own,
        recent=_recent(states, marginal, joint, known),
        past=_past(states, evidence, known),
    )
    return Scanned(scan.Best(surprise, channel), evidence, seen), after


def _recent(
    states: States,
    marginal: NDArray[np.float32],
    joint: NDArray[np.float32],
    known: NDArray[np.bool_],
) -> NDArray[np.float32]:
    longest = states.recent.shape[1]
    now = np.where(known[..., None], np.concatenate([marginal, joint], axis=-1), 0)
    joined = np.concatenate([states.recent, now], axis=1)
    return joined[:, joined.shape[1] - longest :].astype(np.float32)


def _past(
    states: States, evidence: NDArray[np.float32], known: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Counts of own evidence so far, a bin for each BIN_WIDTH."""
    bins = np.minimum((evidence / BIN_WIDTH).astype(np.int64), HISTORY_BINS - 1)
    past = states.past.copy()
    rows = np.broadcast_to(np.arange(len(past))[:, None], bins.shape)
    np.add.at(past, (rows[known], bins[known]), np.float32(1))
    return past
