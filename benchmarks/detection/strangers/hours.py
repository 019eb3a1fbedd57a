"""What they do in each hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.detection.strangers.days import DAYS
from benchmarks.detection.strangers.plan import FILES, LOGONS, MAIL, UPLOAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.detection.strangers.days import Days
    from benchmarks.detection.strangers.people import People

HOURS = len(DAYS) * 24
HOURS_PER_MONTH = 730


def behave(rng: np.random.Generator, people: People, days: Days) -> NDArray[np.float32]:
    """Draw (users, hours UTC, metrics)."""
    shape = (len(people.site), HOURS)
    time = np.arange(HOURS)[None] + people.zone[:, None]  # local
    day = np.clip(time // 24, 0, len(DAYS) - 1)
    since = (time % 24 - people.begin[:, None] - _own(days.shift, day)) % 24
    evening = _evening(people, _own(days.evening, day), since)
    present = _presence(people, days, day, since)
    here = rng.random(shape) < np.maximum(np.maximum(present, 0.7 * evening), 0.002)
    level = _own(days.intensity, day) + rng.normal(0, 0.25, shape) + np.where(evening, -0.3, 0)
    values = np.zeros((*shape, 5), np.float32)
    for metric in range(5):
        lift = level + _own(days.burst[..., metric], day)
        lift = lift + people.trend[:, metric, None] * (np.arange(HOURS) / HOURS_PER_MONTH)
        if metric in {MAIL, FILES}:
            lift = lift + 0.7 * _own(days.returned, day)
        active = here & (rng.random(shape) < _chance(people, metric, lift, since))
        size = people.mu[:, metric, None] + lift
        size = np.exp(size + people.sigma[:, metric, None] * rng.normal(size=shape))
        values[..., metric] = active * _amount(rng, metric, size)
    _add_jobs(rng, people, time % 24, values)
    return values


def _own(table: NDArray[Any], day: NDArray[Any]) -> NDArray[Any]:
    """A table by day, by the hour of each user's own days."""
    return np.take_along_axis(table, day, 1)


def _evening(people: People, evening: NDArray[Any], since: NDArray[Any]) -> NDArray[Any]:
    after = since - people.length[:, None]
    return np.asarray(evening & (after > 1.5) & (after < 4.5))


def _presence(people: People, days: Days, day: NDArray[Any], since: NDArray[Any]) -> NDArray[Any]:
    """The chance to be there, evenings apart."""
    length = people.length[:, None]
    present = _own(days.there, day) * np.clip(np.minimum(since + 0.3, length - since), 0, 1)
    lunch = np.abs(since - length / 2) < 0.6
    present = present * np.where(lunch, 0.55, 1) * 0.95
    night = _own(days.night, day) & (since > 14) & (since < 19)
    return np.asarray(np.maximum(present, 0.6 * night))


def _chance(people: People, metric: int, lift: NDArray[Any], since: NDArray[Any]) -> NDArray[Any]:
    """That something is done in an hour; everyone logs on in the first."""
    active = people.active[:, metric, None]
    odds = active / (1 - active) * np.exp(0.6 * lift)
    return np.where((since < 1) & (metric == LOGONS), 0.9, odds / (1 + odds))


def _amount(rng: np.random.Generator, metric: int, size: NDArray[Any]) -> NDArray[Any]:
    """Counts, and megabytes, of which a few are many."""
    if metric != UPLOAD:
        return np.asarray(1 + rng.poisson(np.minimum(size, 1e5)))
    large = rng.random(size.shape) < 0.01
    size = np.where(large, size * np.exp(rng.exponential(1.0, size.shape)), size)
    return np.maximum(np.round(size, 3), 0.001)


def _add_jobs(
    rng: np.random.Generator, people: People, hour: NDArray[Any], values: NDArray[np.float32]
) -> None:
    """Backups by night."""
    nightly = people.machine[:, None] & (hour == 2)
    values[..., UPLOAD] += nightly * np.round(np.exp(2 + rng.normal(0, 0.3, hour.shape)), 3)
    values[..., FILES] += nightly * rng.poisson(20, hour.shape)
