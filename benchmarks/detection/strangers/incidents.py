"""What nobody told: edits of what people did in the scored month."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.detection.strangers.days import DAYS
from benchmarks.detection.strangers.hours import HOURS
from benchmarks.detection.strangers.plan import FILES, HOSTS, LOGONS, MAIL, SCORED, UPLOAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from benchmarks.detection.strangers.days import Days
    from benchmarks.detection.strangers.people import People
    from benchmarks.detection.strangers.plan import Plan

FIRST_DAY = (pd.Timestamp(SCORED) - DAYS[0]).days
FIRST = FIRST_DAY * 24  # hour


@dataclass(frozen=True)
class Incident:
    """Steps from `first` to `last` (exclusive) of a user."""

    user: int
    kind: str
    first: int
    last: int


@dataclass(frozen=True)
class Actor:
    """One user about to do it. behaviour: of all users, edited in place; typical: the user's, by metric."""

    rng: np.random.Generator
    plan: Plan
    people: People
    behaviour: NDArray[np.float32]
    user: int
    typical: NDArray[Any]

    def hour(self, day: int, hour: int) -> int:
        """The step of a local hour."""
        return int(np.clip(day * 24 + hour - self.people.zone[self.user], FIRST, HOURS - 1))

    def office(self, day: int, count: int) -> list[int]:
        """Some working hours."""
        begin, length = self.people.begin[self.user], int(self.people.length[self.user])
        after = self.rng.choice(max(2, length), min(length, count), replace=False)
        return [self.hour(day, int(begin + one)) for one in after]

    def loud(self, share: float) -> int:
        """How many hours a day loud acts take."""
        return max(1, round(share * max(1.0, 4 * self.plan.duration)))

    def lift(self, hour: int, metric: int, by: float) -> None:
        """Do more than is typical, by a logarithm."""
        base = max(self.behaviour[self.user, hour, metric], self.typical[metric])
        value = base * np.exp(by * self.rng.uniform(0.8, 1.2))
        done = np.round(value, 3) if metric == UPLOAD else np.ceil(value)
        self.behaviour[self.user, hour, metric] = done


def exfiltrate(actor: Actor, day: int) -> None:
    """Files are read and sent out."""
    for hour in actor.office(day, actor.loud(1.0)):
        actor.lift(hour, UPLOAD, 2.2 * actor.plan.strength)
        actor.lift(hour, FILES, 1.5 * actor.plan.strength)


def come_by_night(actor: Actor, day: int) -> None:
    """A little of all, after midnight."""
    for after in range(actor.loud(0.8)):
        hour = actor.hour(day, 25 + after)
        actor.lift(hour, LOGONS, 0.4 * actor.plan.strength)
        actor.lift(hour, FILES, 0.6 * actor.plan.strength)
        actor.lift(hour, HOSTS, 0.4 * actor.plan.strength)


def scan_hosts(actor: Actor, day: int) -> None:
    """Many hosts are tried."""
    for hour in actor.office(day, actor.loud(0.8)):
        actor.lift(hour, HOSTS, 2.0 * actor.plan.strength)
        actor.lift(hour, LOGONS, 0.8 * actor.plan.strength)


def mail_all(actor: Actor, day: int) -> None:
    """Mail to everyone."""
    for hour in actor.office(day, actor.loud(0.6)):
        actor.lift(hour, MAIL, 2.4 * actor.plan.strength)


def leak_slowly(actor: Actor, day: int) -> None:
    """Somewhat more is sent out, all day."""
    for hour in actor.office(day, 7):
        actor.lift(hour, UPLOAD, 0.9 * actor.plan.strength)


def mix(actor: Actor, day: int) -> None:
    """Somewhat more of several, and a late logon."""
    for hour in actor.office(day, 4):
        actor.lift(hour, UPLOAD, 1.0 * actor.plan.strength)
        actor.lift(hour, FILES, 0.7 * actor.plan.strength)
        actor.lift(hour, HOSTS, 0.7 * actor.plan.strength)
    late = actor.hour(day, 22)
    actor.lift(late, LOGONS, 0.2)
    actor.lift(late, UPLOAD, 0.8 * actor.plan.strength)


def take_over(actor: Actor, day: int) -> None:
    """Somebody else's day of four weeks ago, at other hours."""
    zone, values = actor.people.zone, actor.behaviour
    other = int(actor.rng.integers(len(values)))
    source = (day - 28) * 24 - zone[other] - int(actor.rng.integers(-3, 9))
    first = max(day * 24 - zone[actor.user], FIRST)
    piece = values[other, source : source + 24][: HOURS - first]
    own = values[actor.user, first : first + len(piece)]
    own[:] = np.maximum(own * 0.3, np.ceil(piece * (0.6 + 0.6 * actor.plan.strength)))


def sabotage(actor: Actor, day: int) -> None:
    """Very many files."""
    for hour in actor.office(day, actor.loud(0.7)):
        actor.lift(hour, FILES, 2.4 * actor.plan.strength)
        actor.lift(hour, LOGONS, 0.5 * actor.plan.strength)


def fall_silent(actor: Actor, day: int) -> None:
    """Hardly anything."""
    first = day * 24 - actor.people.zone[actor.user]
    own = actor.behaviour[actor.user, max(first, FIRST) : first + 24]
    own *= actor.rng.random((len(own), 1)) < 0.08


class Kind(NamedTuple):
    """What is done on a day, and on how many days."""

    act: Callable[[Actor, int], None]
    least: int
    most: int


KINDS = {
    "exfil": Kind(exfiltrate, 1, 3),
    "night": Kind(come_by_night, 1, 4),
    "scan": Kind(scan_hosts, 1, 2),
    "mass_mail": Kind(mail_all, 1, 2),
    "slow": Kind(leak_slowly, 5, 12),
    "takeover": Kind(take_over, 1, 4),
    "sabotage": Kind(sabotage, 1, 2),
    "silence": Kind(fall_silent, 2, 5),
    "mixed": Kind(mix, 2, 6),
}


def plant(
    rng: np.random.Generator, plan: Plan, people: People, days: Days, values: NDArray[np.float32]
) -> list[Incident]:
    """Edit values; the kinds take turns. One that changed nothing is none."""
    users, planted = len(values), []
    chosen = rng.choice(users, round(plan.incident_share * users), replace=False)
    for number, user in enumerate(chosen):
        name = list(KINDS)[number % len(KINDS)]
        kind = KINDS[name]
        lasts = max(1, round(plan.duration * rng.integers(kind.least, kind.most + 1)))
        first = _first_day(rng, days.there[user], lasts)
        before = values[user].copy()
        actor = Actor(rng, plan, people, values, int(user), _typical(before, people.mu[user]))
        for day in range(first, min(first + lasts, len(DAYS) - 1)):
            kind.act(actor, day)
        touched = np.flatnonzero((before != values[user]).any(axis=1))
        if len(touched):
            planted.append(Incident(int(user), name, int(touched[0]), int(touched[-1]) + 1))
    return planted


def _first_day(rng: np.random.Generator, there: NDArray[Any], lasts: int) -> int:
    """One on which the user is there, if there is one."""
    order = FIRST_DAY + rng.permutation(np.arange(2, len(DAYS) - FIRST_DAY - lasts - 1))
    return int(order[np.argmax(there[order])])


def _typical(own: NDArray[np.float32], mu: NDArray[Any]) -> NDArray[Any]:
    """The median of what was done in history, by metric."""
    return np.array([
        np.median(one[one > 0]) if (one > 0).any() else np.exp(mu[metric])
        for metric, one in enumerate(own[:FIRST].T)
    ])  # fmt: skip
