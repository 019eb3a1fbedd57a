"""A whole world, in the form of the product's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from anomaly.simulation import World
from benchmarks.detection.strangers.days import live
from benchmarks.detection.strangers.hours import HOURS, behave
from benchmarks.detection.strangers.incidents import plant
from benchmarks.detection.strangers.people import hire
from benchmarks.detection.strangers.plan import METRICS, START

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.detection.strangers.plan import Plan

STREAM = 77


def make_strangers(plan: Plan, users: int, seed: int) -> World:
    """Make a world; the same for the same arguments. Of events and oddities it tells nothing."""
    rng = np.random.default_rng([seed, STREAM])
    people = hire(rng, plan, users)
    days = live(rng, plan, people)
    values = behave(rng, people, days)
    planted = plant(rng, plan, people, days, values)
    names = np.array([f"u{number:04d}" for number in range(users)], dtype=object)
    hours = pd.date_range(START, periods=HOURS + 1, freq="h", tz="UTC")
    incidents = pd.DataFrame({
        "user_id": names[[one.user for one in planted]],
        "start": hours[[one.first for one in planted]],
        "end": hours[[one.last for one in planted]],
        "kind": [one.kind for one in planted],
    })  # fmt: skip
    there = pd.DataFrame({"user_id": names, "active_from": hours[0], "active_to": pd.NaT})
    there["active_to"] = pd.to_datetime(there["active_to"], utc=True)
    nothing = pd.DataFrame({"kind": [], "start": [], "end": [], "user_id": []})
    return World(_rows(names, hours, values), there, nothing, incidents, nothing)


def _rows(
    names: NDArray[np.object_], hours: pd.DatetimeIndex, values: NDArray[np.float32]
) -> pa.Table:
    """A row for each hour and metric in which something happened."""
    user, hour, metric = np.nonzero(values)
    return pa.table({
        "user_id": names[user],
        "metric": np.array(METRICS, dtype=object)[metric],
        "observed_at": hours[hour],
        "value": values[user, hour, metric].astype(float),
    })  # fmt: skip
