"""Rows as users x steps x metrics, for the baselines; the product lays out its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Laid:
    """amounts (users, steps, metrics) float32, NaN where nothing is known; seen (users, steps),
    where a user exists; first: the first scored step; step: seconds, the usual gap; logged (metrics,):
    whose amounts are log(1 + x).
    """

    users: tuple[str, ...]
    times: pd.DatetimeIndex
    amounts: NDArray[np.float32]
    seen: NDArray[np.bool_]
    first: int
    step: float
    logged: NDArray[np.bool_]

    def until(self, end: int, first: int) -> Laid:
        """The steps before `end`, scored from `first` on."""
        return replace(
            self,
            times=self.times[:end],
            amounts=self.amounts[:, :end],
            seen=self.seen[:, :end],
            first=first,
        )


def lay_out(frame: pd.DataFrame, train_until: pd.Timestamp) -> Laid:
    """Lay rows out on a regular grid, or on their own instants where there is one user only.

    Counts (whole numbers, none negative, in history) are brought to log(1 + x). Where history
    never records a zero, a count without a row is zero from the user's first row on; elsewhere it
    is unknown, and a user ends with the last row. Rows delivered twice count once.
    """
    frame = frame.drop_duplicates()
    user, users = pd.factorize(frame["user_id"].astype(str), sort=True)
    metric, metrics = pd.factorize(frame["metric"].astype(str), sort=True)
    times, step = _grid(pd.DatetimeIndex(frame["observed_at"]), len(users))
    at = times.searchsorted(pd.DatetimeIndex(frame["observed_at"]), side="right") - 1
    values = np.full((len(users), len(times), len(metrics)), np.nan, dtype=np.float32)
    values[user, at, metric] = frame["value"].to_numpy()
    first = int(times.searchsorted(train_until))
    begin, last = np.full(len(users), len(times)), np.zeros(len(users), dtype=np.int64)
    np.minimum.at(begin, user, at)
    np.maximum.at(last, user, at)
    count, silent = _kinds(values[:, :first])
    last = np.full(len(users), len(times) - 1) if silent.any() else last
    place = np.arange(len(times))
    seen = (place >= begin[:, None]) & (place <= last[:, None])
    values[:, :, silent] = np.where(
        seen[:, :, None] & np.isnan(values[:, :, silent]), 0, values[:, :, silent]
    )
    values[:, :, count] = np.log1p(np.maximum(values[:, :, count], 0))
    return Laid(tuple(users), times, values, seen, first, step, count)


def _grid(observed: pd.DatetimeIndex, users: int) -> tuple[pd.DatetimeIndex, float]:
    """The instants, and the usual gap between them in seconds."""
    own = observed.unique().sort_values()
    gaps, counts = np.unique(np.diff(own.to_numpy()), return_counts=True)
    usual = pd.Timedelta(gaps[np.argmax(counts)])
    times = own if users == 1 else pd.date_range(own[0], own[-1], freq=usual)
    return times, usual.total_seconds()


def _kinds(history: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which metrics are counts, and which of them leave zeros out: (metrics,) each."""
    flat = history.reshape(-1, history.shape[-1])
    known = ~np.isnan(flat)
    count = (~known | ((flat >= 0) & (flat % 1 == 0))).all(axis=0) & known.any(axis=0)
    return count, count & (~known | (flat > 0)).all(axis=0) & ~known.all(axis=0)


def runs(hit: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of True in a line, as (first, last) positions, both inclusive."""
    edges = np.diff(np.concatenate([[0], hit.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
