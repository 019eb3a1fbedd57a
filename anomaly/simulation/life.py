"""What happens to one user that is unusual and honest.

Each of these makes an hour or a week improbable under the user's own past, and none is an
incident: a detector that flags whatever is rare drowns in them. Only leave and announced days are
known to anyone but the user, so most of it cannot be read off a calendar.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.months import DAYS_PER_MONTH
from anomaly.simulation.company import DAY, HOUR
from anomaly.simulation.roles import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.simulation.company import Site
    from anomaly.simulation.habits import Habits

MONTHS_TO_DRIFT = 4.0


@dataclass(frozen=True, slots=True)
class Spell:
    """Something in a user's life, in steps start to end (exclusive).

    kind: leave, sick, travel, deadline, hours, step, drift, role, joined, left, gap. known: it is in
    the personnel calendar.
    """

    kind: str
    start: int
    end: int
    known: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """One user's spells, laid out over the hours.

    away: (hours,) bool. shift: (hours,) hours by which the user's clock runs ahead of the
    site's. long_days: (hours,) bool, work goes on into the night. log_factor: (hours, metrics).
    lost: (hours, metrics) bool, not collected.
    first, last: the account exists in steps [first, last). new_role: step from which the user
    works in another role, or the number of hours.
    """

    spells: tuple[Spell, ...]
    away: NDArray[np.bool_]
    shift: NDArray[np.float64]
    long_days: NDArray[np.bool_]
    log_factor: NDArray[np.float64]
    lost: NDArray[np.bool_]
    first: int
    last: int
    new_role: int


def draw_life(rng: np.random.Generator, habits: Habits, site: Site) -> Life:
    """Draw what happens to one user over the whole of the site's calendar."""
    hours, months = len(site.local), site.days / DAYS_PER_MONTH
    life = _Draft(rng, site)
    life.drift(hours / (DAY / HOUR) / DAYS_PER_MONTH)
    life.steps(rng.poisson(0.04 * months))
    life.turnover()
    life.gaps(rng.poisson(0.02 * months))
    if not habits.role.is_machine:
        life.absences("leave", rng.poisson(0.40 * months), longest=14, known=0.85)
        life.absences("sick", rng.poisson(0.20 * months), longest=4, known=0.3)
        life.travels(rng.poisson(habits.role.travel * months))
        life.deadlines(rng.poisson(0.25 * months))
        life.new_hours(rng.poisson(0.03 * months))
        life.change_of_role()
    _turn_of_months(life, habits, site)
    return life.done()


class _Draft:
    """A life being drawn; each method adds one sort of spell."""

    def __init__(self, rng: np.random.Generator, site: Site) -> None:
        hours = len(site.local)
        self.rng, self.site = rng, site
        self.spells: list[Spell] = []
        self.away = np.zeros(hours, dtype=bool)
        self.shift = np.zeros(hours)
        self.long_days = np.zeros(hours, dtype=bool)
        self.log_factor = np.zeros((hours, len(METRICS)))
        self.lost = np.zeros(self.log_factor.shape, dtype=bool)
        self.first, self.last, self.new_role = 0, hours, hours

    def _spell(self, kind: str, longest: int, known: bool = False) -> slice:
        """One to `longest` whole local days, short ones more often."""
        start = int(self.rng.integers(self.site.days))
        length = int(np.ceil(longest ** self.rng.random()))
        return self._note(kind, start, min(start + length, self.site.days), known)

    def _note(self, kind: str, start_day: int, end_day: int, known: bool = False) -> slice:
        """Write a spell of local days down and return its steps."""
        start, end = int(self.site.day_start[start_day]), int(self.site.day_start[end_day])
        self.spells.append(Spell(kind, start, end, known))
        return slice(start, end)

    def absences(self, kind: str, count: int, longest: int, known: float) -> None:
        """Days without work; some people look at their mail all the same."""
        for _ in range(count):
            self.away[self._spell(kind, longest, self.rng.random() < known)] = True

    def travels(self, count: int) -> None:
        """Days in another time zone, with other hosts and fewer files."""
        for _ in range(count):
            steps = self._spell("travel", 8)
            self.shift[steps] += self.rng.choice([-9, -6, -5, -3, 3, 5, 6, 9])
            self.log_factor[steps] += self.rng.normal(-0.2, 0.5, len(METRICS))

    def deadlines(self, count: int) -> None:
        """One to five days of much more of some of the work, often into the night."""
        for _ in range(count):
            steps = self._spell("deadline", 5)
            self.log_factor[steps] += self.rng.normal(self.rng.uniform(0.1, 0.9), 0.3, len(METRICS))
            self.long_days[steps] |= self.rng.random() < 0.6

    def new_hours(self, count: int) -> None:
        """From some day on the user comes earlier or later."""
        for _ in range(count):
            start = int(self.rng.integers(self.site.days))
            self.shift[self._note("hours", start, self.site.days)] += self.rng.normal(0, 1.2)

    def steps(self, count: int) -> None:
        """A new task or tool: one metric goes to another level and stays there."""
        for _ in range(count):
            start, metric = int(self.rng.integers(self.site.days)), self.rng.integers(len(METRICS))
            steps = self._note("step", start, self.site.days)
            self.log_factor[steps, metric] += self.rng.normal(0, 0.6)

    def drift(self, months: float) -> None:
        """One user in seven changes slowly: in either direction, over months."""
        slope = self.rng.normal(0, 0.4 / MONTHS_TO_DRIFT, len(METRICS))
        if self.rng.random() < 0.15:
            self._note("drift", 0, self.site.days)
            self.log_factor += np.linspace(0, months, len(self.away))[:, None] * slope

    def turnover(self) -> None:
        """Some join and some leave within the world; who leaves winds down first."""
        day, chance = int(self.rng.integers(3, max(4, self.site.days - 3))), self.rng.random()
        if chance < 0.07:
            self.first = self._note("joined", day, min(day + 10, self.site.days)).start
        elif chance < 0.12:
            steps = self._note("left", max(0, day - 7), day)
            self.last = steps.stop
            self.log_factor[steps] += self.rng.normal(-0.5, 0.5, len(METRICS))

    def change_of_role(self) -> None:
        """Three in a hundred do other work from some day on."""
        day = int(self.rng.integers(self.site.days))
        if self.rng.random() < 0.03:
            self.new_role = self._note("role", day, self.site.days).start

    def gaps(self, count: int) -> None:
        """The collector on the user's machine loses one metric for some days."""
        for _ in range(count):
            self.lost[self._spell("gap", 6), self.rng.integers(len(METRICS))] = True

    def done(self) -> Life:
        """The finished life."""
        return Life(
            tuple(self.spells), self.away, self.shift, self.long_days, self.log_factor,
            self.lost, self.first, self.last, self.new_role,
        )  # fmt: skip


def _turn_of_months(life: _Draft, habits: Habits, site: Site) -> None:
    """The last three and first two days of a month are busier for roles that close the books."""
    dates = (site.local // DAY).astype("datetime64[D]")
    month = dates.astype("datetime64[M]")
    since = (dates - month.astype("datetime64[D]")).astype(np.int64)
    until = ((month + 1).astype("datetime64[D]") - dates).astype(np.int64)
    turn = (since < 2) | (until <= 3)
    life.log_factor[turn] += np.log(habits.role.month_end)
    life.long_days |= turn & (habits.role.month_end > 2)
