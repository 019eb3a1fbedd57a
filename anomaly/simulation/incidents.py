"""What is planted: stories of misuse and of faults, each a change to honest hours.

An incident never replaces a user's numbers by fixed ones; it adds to, thins out or copies over what
the user would have done anyway, in proportion to the user's own brisk hours, because that is what
an account's misuse looks like in its log. Its size is drawn over a range of thirty, so that every
kind has examples that nobody could miss and examples that nobody could tell from a busy day. The
stories follow those told of insiders (bulk reading before leaving, sticks, uploads over weeks,
shared or stolen accounts) and of machines (a job that stops, a client that calls home).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.simulation.roles import BYTES, FILES, HOSTS, LOGONS, METRICS, USB

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SMALLEST, LARGEST = 0.5, 16.0  # sizes; 1 is of the order of the user's own brisk hours
DAY_STEPS = 24


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an incident may happen.

    values: (hours, metrics) of the whole world, changed in place. brisk: (metrics,) what the user
    does in a brisk hour. free: (hours,) True where the user hardly ever works. stranger: (hours,
    metrics), what somebody in another role does on the same days. first, last: the steps that may
    be touched.
    """

    rng: np.random.Generator
    values: NDArray[np.float64]
    brisk: NDArray[np.float64]
    free: NDArray[np.bool_]
    stranger: NDArray[np.float64]
    first: int
    last: int
    size: float

    def days(self, shortest: int, longest: int) -> NDArray[np.int64]:
        """Steps of a random span of that many days, cut to what may be touched."""
        length = DAY_STEPS * int(self.rng.integers(shortest, longest + 1))
        start = int(self.rng.integers(self.first, max(self.first + 1, self.last - length)))
        return np.arange(start, min(start + length, self.last))

    def hours(self, among: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Up to `count` consecutive ones of these steps, from a random one on."""
        start = int(self.rng.integers(max(1, len(among) - count + 1)))
        return among[start : start + count]

    def working(self, among: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the steps in which the user did anything."""
        return among[self.values[among].any(axis=1)]

    def add_count(self, steps: NDArray[np.int64], metric: int, mean: float) -> None:
        """At least one more at each step, around the mean."""
        wild = self.rng.gamma(3, 1 / 3, len(steps))
        self.values[steps, metric] += 1 + self.rng.poisson(max(mean - 1, 0) * wild)

    def add_bytes(self, steps: NDArray[np.int64], mean: float) -> None:
        """An amount at each step, log-normal around the mean."""
        self.values[steps, BYTES] += np.ceil(mean * self.rng.lognormal(-0.3, 0.8, len(steps)))


def night_reading(scene: Scene) -> None:
    """Much is read in hours in which the user is never there, on one night or a few in a row."""
    days = scene.days(1, 4)
    for night in np.array_split(days, max(1, len(days) // DAY_STEPS)):
        steps = scene.hours(night[scene.free[night]], int(scene.rng.integers(2, 7)))
        scene.add_count(steps, FILES, 2.0 * scene.size * scene.brisk[FILES])
        scene.add_bytes(steps, 0.3 * scene.size * scene.brisk[BYTES])
        scene.add_count(steps[:1], LOGONS, 1)


def slow_exfiltration(scene: Scene) -> None:
    """For one to two weeks more goes out in working hours, never much at once."""
    steps = scene.working(scene.days(7, 14))
    steps = steps[scene.rng.random(len(steps)) < 0.7]
    scene.add_bytes(steps, 1.2 * scene.size * scene.brisk[BYTES])


def usb_copy(scene: Scene) -> None:
    """Files go to a stick within a few hours at the desk."""
    steps = scene.hours(scene.working(scene.days(1, 2)), int(scene.rng.integers(1, 5)))
    scene.add_count(steps, USB, 1.5 * scene.size)
    scene.add_count(steps, FILES, 1.5 * scene.size * scene.brisk[FILES])
    scene.add_bytes(steps, 1.5 * scene.size * scene.brisk[BYTES])


def takeover(scene: Scene) -> None:
    """Somebody else works with the account when its owner does not, in his own way."""
    days = scene.days(2, 6)
    active = scene.rng.random(len(days)) < 0.15 + 0.25 * scene.size
    steps = days[scene.free[days] & active]
    habits = scene.stranger[scene.stranger.any(axis=1)]
    if len(habits):
        scene.values[steps] += habits[scene.rng.integers(len(habits), size=len(steps))]


def host_scan(scene: Scene) -> None:
    """The account touches host after host for some hours."""
    steps = scene.hours(scene.days(1, 1), int(scene.rng.integers(2, 9)))
    scene.add_count(steps, HOSTS, 2.5 * scene.size * (scene.brisk[HOSTS] + 1))
    scene.add_count(steps, LOGONS, 0.5 * scene.size)


def silence(scene: Scene) -> None:
    """A machine falls silent, or nearly so, for hours or days."""
    hours = int(np.clip(scene.rng.uniform(6, 20) * scene.size, 4, 96))
    steps = scene.days(4, 4)[:hours]
    thinned = scene.rng.random(len(steps)) < 0.6 + 0.1 * scene.size
    scene.values[steps[thinned]] = 0


def broken_combination(scene: Scene) -> None:
    """Bytes go out as ever or more, but no file is read: what leaves comes from elsewhere."""
    steps = scene.working(scene.days(1, 5))
    steps = steps[scene.rng.random(len(steps)) < 0.3 + 0.2 * scene.size]
    scene.values[steps, FILES] = 0
    scene.add_bytes(steps, 0.4 * scene.size * scene.brisk[BYTES])


def quick_drift(scene: Scene) -> None:
    """Two metrics rise day by day for two to three weeks; honest drift takes months."""
    days = scene.days(14, 20)
    rise = 1 + scene.size * np.linspace(0.1, 0.8, len(days))
    for metric in scene.rng.choice([BYTES, FILES, HOSTS, LOGONS], 2, replace=False):
        grown = scene.values[days, metric] * rise
        scene.values[days, metric] = np.floor(grown + scene.rng.random(len(days)))


def beacon(scene: Scene) -> None:
    """Something calls home every hour or two, day and night, a little each time."""
    every = int(scene.rng.integers(1, 4))
    steps = scene.days(2, 9)[::every]
    scene.add_bytes(steps, 0.25 * scene.size * scene.brisk[BYTES])
    scene.values[steps, HOSTS] += 1


def logon_storm(scene: Scene) -> None:
    """A script tries passwords, or a stale one is tried again and again."""
    steps = scene.hours(scene.days(1, 1), int(scene.rng.integers(2, 9)))
    scene.add_count(steps, LOGONS, 2.0 * scene.size * (scene.brisk[LOGONS] + 1))


PEOPLE: dict[str, Callable[[Scene], None]] = {
    "night_reading": night_reading,
    "slow_exfiltration": slow_exfiltration,
    "usb_copy": usb_copy,
    "takeover": takeover,
    "host_scan": host_scan,
    "broken_combination": broken_combination,
    "quick_drift": quick_drift,
    "beacon": beacon,
    "logon_storm": logon_storm,
}
MACHINES: dict[str, Callable[[Scene], None]] = {
    "silence": silence,
    "slow_exfiltration": slow_exfiltration,
    "host_scan": host_scan,
    "takeover": takeover,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """What an incident left, in steps start to end (exclusive): the hours that it changed.

    metrics: names joined by ';', the most changed first. size: see SMALLEST and LARGEST.
    """

    kind: str
    start: int
    end: int
    metrics: str
    size: float


def draw_size(rng: np.random.Generator) -> float:
    """Log-uniform over the range of sizes."""
    return float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))


def trace(
    kind: str, size: float, honest: NDArray[np.float64], values: NDArray[np.float64]
) -> Trace | None:
    """Compare what is seen with what would have been; None where nothing shows."""
    changed = np.flatnonzero((honest != values).any(axis=1))
    if not len(changed):
        return None
    usual = honest.sum(axis=0) + 1
    change = np.abs(values - honest).sum(axis=0) / usual
    order = [int(metric) for metric in np.argsort(-change) if change[metric] > 0]
    names = ";".join(METRICS[metric] for metric in order)
    return Trace(kind, int(changed[0]), int(changed[-1]) + 1, names, size)
