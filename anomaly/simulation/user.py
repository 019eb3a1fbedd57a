"""One user from first to last: habits, life, behaviour, incidents.

Each layer draws from a stream of its own, seeded by the world's seed and the user's number alone.
So a larger world holds the same users, and the same world without incidents holds the same honest
hours, which lets a test or a benchmark see what an incident changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.simulation.behaviour import behave
from anomaly.simulation.company import PLACES, stream
from anomaly.simulation.habits import draw_habits, moved
from anomaly.simulation.incidents import MACHINES, PEOPLE, Scene, draw_size, trace
from anomaly.simulation.life import draw_life
from anomaly.simulation.roles import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.simulation.company import Company, Site
    from anomaly.simulation.habits import Habits
    from anomaly.simulation.incidents import Trace
    from anomaly.simulation.life import Life
    from anomaly.simulation.roles import Role

WHO, LIFE, HOURS, STRANGER, INCIDENTS = range(1, 6)
MIN_EXPOSURE = 72  # an account must exist for so many steps of a month to be attacked in it
ATTEMPTS = 5  # an incident that leaves no trace (no work that day, collector down) is drawn again
RARELY = 0.03  # an hour of the week worked in less often than this is a free one
WEEK = 168
HUMAN_ROLES = tuple(role for role in ROLES if not role.is_machine)


@dataclass(frozen=True, slots=True)
class Exposure:
    """A month in steps first to last (exclusive), and the chance of an incident in it."""

    first: int
    last: int
    chance: float


@dataclass(frozen=True, slots=True)
class User:
    """One made user.

    role: as the personnel office knows it at the end. behaviour: (hours, metrics) as collected, 0
    where nothing is recorded. traces: what incidents left.
    """

    number: int
    role: Role
    site: Site
    life: Life
    behaviour: NDArray[np.float64]
    traces: tuple[Trace, ...]

    @property
    def user_id(self) -> str:
        """The account's name."""
        return f"u{self.number:05d}"


def make_user(company: Company, seed: int, number: int, months: Sequence[Exposure]) -> User:
    """Make user `number`, who may have an incident in each of the months."""
    who = stream(seed, WHO, number)
    role = ROLES[int(who.choice(len(ROLES), p=[role.share for role in ROLES]))]
    site = company.sites[int(who.choice(len(PLACES), p=[share for _, _, share in PLACES]))]
    if role.is_machine:
        site = company.server_room
    habits = draw_habits(who, role)
    later = moved(habits, _anyone(who))
    life = draw_life(stream(seed, LIFE, number), habits, site)
    values = behave(stream(seed, HOURS, number), habits, later, life, site, company)
    lost = company.lost[role.department] | life.lost
    values[lost] = 0
    final = later.role if life.new_role < len(values) else role
    honest = User(number, final, site, life, values, ())
    return _with_incidents(honest, company, seed, months, lost)


def _anyone(rng: np.random.Generator) -> Habits:
    """The habits of a person of any role."""
    return draw_habits(rng, HUMAN_ROLES[int(rng.integers(len(HUMAN_ROLES)))])


def _with_incidents(
    user: User,
    company: Company,
    seed: int,
    months: Sequence[Exposure],
    lost: NDArray[np.bool_],
) -> User:
    """Draw each month's incident and write it into the user's hours; what was lost stays lost."""
    values, traces = user.behaviour, []
    for month in months:
        rng = stream(seed, INCIDENTS, user.number, month.first)
        first, last = max(month.first, user.life.first), min(month.last, user.life.last)
        if rng.random() >= month.chance or last - first < MIN_EXPOSURE:
            continue
        stranger = _stranger(user, company, seed)
        for _ in range(ATTEMPTS):
            scene = _scene(rng, user, values, stranger, first, last)
            stories = MACHINES if user.role.is_machine else PEOPLE
            kind = str(rng.choice(list(stories)))
            stories[kind](scene)
            scene.values[lost] = 0
            found = trace(kind, scene.size, values, scene.values)
            if found is not None:
                values = scene.values
                traces.append(found)
                break
    return User(user.number, user.role, user.site, user.life, values, tuple(traces))


def _stranger(user: User, company: Company, seed: int) -> NDArray[np.float64]:
    """What a person of any role does in the same months, for an account that is taken over."""
    rng = stream(seed, STRANGER, user.number)
    habits = _anyone(rng)
    life = draw_life(rng, habits, user.site)
    return behave(rng, habits, habits, life, user.site, company)


def _scene(
    rng: np.random.Generator,
    user: User,
    values: NDArray[np.float64],
    stranger: NDArray[np.float64],
    first: int,
    last: int,
) -> Scene:
    """The user's own measures: brisk hours, and hours of the week that are free."""
    usual = user.role.rates
    brisk = np.array([
        np.quantile(column[column > 0], 0.75) if column.any() else usual[metric]
        for metric, column in enumerate(values.T)
    ])  # fmt: skip
    hour_of_week = user.site.local // 3_600 % WEEK
    worked = np.bincount(hour_of_week, values.any(axis=1), WEEK)
    existed = np.bincount(hour_of_week, np.ones(len(values)), WEEK)
    free = (worked / np.maximum(existed, 1) < RARELY)[hour_of_week]
    return Scene(rng, values.copy(), brisk, free, stranger, first, last, draw_size(rng))
