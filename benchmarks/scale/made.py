"""Users by the hour, made in blocks, so that a hundred thousand fit a small memory.

Every cell of users x hours x metrics is a row, zeros too. A user's behaviour depends on the seed, the
user's number and the month alone, so that more users change nothing for those already there. Users of
different blocks may share habits; what becomes of them in a month is each one's own.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from anomaly.months import Month

METRICS = ("bytes_out", "files_read", "hosts_touched", "logons", "usb_events")
RATES = np.array([4e5, 9.0, 2.5, 1.6, 0.06])  # in a working hour of a usual user
BLOCK_USERS = 500  # users in a file
GROUP_USERS = 100  # users in one of its row groups
INCIDENT_SHARE = 0.02  # of users, in each month that is scored
INCIDENT_HOURS = 10
HOUR = 3_600
SPREAD = 0.6  # of users' levels, in natural logarithms
IDLE = 0.03  # of the working rate, at night and on free days


@dataclass(frozen=True, slots=True)
class Block:
    """Some users' month. values: (users, hours, METRICS); odd: (users, hours), True in an incident."""

    users: tuple[str, ...]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    odd: NDArray[np.bool_]

    def table(self) -> pa.Table:
        """A row for each cell, by user, hour and metric."""
        users, hours, metrics = self.values.shape
        names = np.repeat(np.arange(users, dtype=np.int32), hours * metrics)
        kinds = np.tile(np.arange(metrics, dtype=np.int32), users * hours)
        times = np.tile(np.repeat(self.times * 1_000_000, metrics), users)
        return pa.table(
            {
                "user_id": pa.DictionaryArray.from_arrays(names, list(self.users)),
                "metric": pa.DictionaryArray.from_arrays(kinds, list(METRICS)),
                "observed_at": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
                "value": self.values.reshape(-1),
            }
        )


def block(
    number: int, month: Month, seed: int, *, incidents: bool, habits_of: int | None = None
) -> Block:
    """The users of one block in one month. habits_of: the block whose users' habits they have; their own."""
    first = number * BLOCK_USERS
    users = tuple(f"user-{first + place:07d}" for place in range(BLOCK_USERS))
    start, end = (int(when.timestamp()) for when in (month.start("UTC"), month.end("UTC")))
    times = np.arange(start, end, HOUR, dtype=np.int64)
    habits = np.random.default_rng((seed, number if habits_of is None else habits_of))
    level = habits.lognormal(0, SPREAD, (BLOCK_USERS, 1, len(METRICS)))
    begins, length = (
        habits.integers(6, 12, (BLOCK_USERS, 1)),
        habits.integers(7, 11, (BLOCK_USERS, 1)),
    )
    local = pd.DatetimeIndex(times.astype("datetime64[s]"), tz="UTC")
    hour = local.hour.to_numpy()[None]
    works = (hour >= begins) & (hour < begins + length) & (local.day_of_week.to_numpy() < 5)[None]
    chance = np.random.default_rng((seed, number, start))
    mean = RATES * level * np.where(works, 1.0, IDLE)[..., None]
    mean = mean * chance.gamma(4.0, 0.25, mean.shape)
    odd = np.zeros(works.shape, dtype=np.bool_)
    if incidents:
        for user in np.flatnonzero(chance.random(BLOCK_USERS) < INCIDENT_SHARE):
            begun = int(chance.integers(0, len(times) - INCIDENT_HOURS))
            odd[user, begun : begun + INCIDENT_HOURS] = True
            metric = int(chance.integers(len(METRICS)))
            mean[user, begun : begun + INCIDENT_HOURS, metric] += (
                chance.uniform(1, 4) * RATES[metric] * level[user, 0, metric] + 0.5
            )
    return Block(users, times, chance.poisson(mean).astype(np.float64), odd)


def write(
    folder: Path,
    users: int,
    month: Month,
    seed: int,
    *,
    incidents: bool,
    known: int | None = None,
) -> list[tuple[str, dt.datetime, dt.datetime]]:
    """A month of so many users (a multiple of BLOCK_USERS) as Parquet, a file for each block.

    Args: known: users whose habits all others have, in turn, a multiple of BLOCK_USERS; None: each has
        their own.
    Returns: who was attacked, from when, until when.
    """
    place = folder / f"month={month}"
    place.mkdir(parents=True, exist_ok=True)
    attacked = []
    for number in range(-(-users // BLOCK_USERS)):
        like = None if known is None else number % (known // BLOCK_USERS)
        made = block(number, month, seed, incidents=incidents, habits_of=like)
        rows = GROUP_USERS * len(made.times) * len(METRICS)
        pq.write_table(made.table(), place / f"part-{number:05d}.parquet", row_group_size=rows)
        for user in np.flatnonzero(made.odd.any(1)):
            hours = made.times[made.odd[user]]
            attacked.append((made.users[user], _instant(hours[0]), _instant(hours[-1] + HOUR)))
    return attacked


def _instant(seconds: np.int64) -> dt.datetime:
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC)
