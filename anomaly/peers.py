"""Who is compared with whom: each user's peer group, why it is that one, and how its members live."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from anomaly import cohorts
from anomaly.states import EVERYONE as HARDLY_KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.model import Model
    from anomaly.panel import Panel
    from anomaly.states import States

EVERYONE = cohorts.name_of(HARDLY_KNOWN)
SHOWN = (0.5, 0.95)  # of the peers, what a plot shows: their middle, and what few of them exceed


@dataclass(frozen=True, slots=True)
class Placed:
    """A peer group that was set instead of found, and why, in words."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Peering:
    """Who was put where; others go by their habits. least: members of a group, the user among them;
    users of smaller ones are compared with everyone.
    """

    placed: Mapping[str, Placed] = field(default_factory=dict)
    least: int = 5

    def of(self, users: Sequence[str]) -> Peering:
        """The part that concerns these users."""
        return Peering({u: self.placed[u] for u in users if u in self.placed}, self.least)

    def name(self, user: str, cohort: int) -> str:
        """The name of the user's group. cohort: the one found from habits."""
        placed = self.placed.get(user)
        return cohorts.name_of(cohort) if placed is None else placed.name


@dataclass(frozen=True, slots=True)
class Group:
    """Users of the reference whom others are compared with.

    members: (users,) who is in it. highest: (users,) evidence of the month; rising: that of members, in
    order. A user's place in the reference is None for one who is not in it; nobody is compared with
    himself.
    """

    members: NDArray[np.bool_]
    highest: NDArray[np.float32]
    rising: list[float]

    @classmethod
    def of(cls, members: NDArray[np.bool_], highest: NDArray[np.float32]) -> Self:
        """Those of the reference who are members."""
        return cls(members, highest, np.sort(highest[members]).tolist())

    def others(self, place: int | None) -> int:
        """How many others there are."""
        return len(self.rising) - (place is not None and bool(self.members[place]))

    def standing(self, evidence: float, place: int | None) -> float:
        """The share of others whose month's highest evidence is below, 0 to 100; looked up, since
        everyone's month asks for it.
        """
        below = bisect_left(self.rising, evidence)
        if place is not None and self.members[place]:
            below -= float(self.highest[place]) < evidence
        return _share(below, self.others(place))

    def percentile(self, below: NDArray[np.bool_], place: int | None) -> float:
        """The share of others who are below, (users,), 0 to 100."""
        count = int((below & self.members).sum())
        if place is not None and self.members[place]:
            count -= bool(below[place])
        return _share(count, self.others(place))


def _share(below: int, others: int) -> float:
    return round(100 * (below / others), 2) if others else 50.0


@dataclass(frozen=True)
class Company:
    """Everyone of the reference, as they are compared with.

    names: (users,) of their groups. habits: (users, profile), see `cohorts.habits`. highest: (metrics,)
    that anyone reached in these steps. lines: by group, (SHOWN, steps, metrics) of what its members
    did, NaN where nothing is known; only where they were asked for.
    """

    names: NDArray[np.object_]
    habits: NDArray[np.float32]
    highest: NDArray[np.float32]
    lines: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: Model, panel: Panel, states: States, peering: Peering, *, lines: bool
    ) -> Company:
        """The users of a panel. states: at its start, when groups are settled."""
        rows = zip(panel.users, states.cohort, strict=True)
        names = np.array([peering.name(user, int(cohort)) for user, cohort in rows], dtype=object)
        known = np.where(panel.mask & panel.present[..., None], panel.values, np.nan)
        reached = np.where(np.isfinite(known), known, 0)
        drawn = _lines(known, names, peering.least) if lines else {}
        habits = cohorts.habits(states.twin, model.prior, model.centre_scale)
        return cls(names, habits, reached.max((0, 1), initial=0.0).astype(np.float32), drawn)

    @cached_property
    def _middles(self) -> dict[str, tuple[NDArray[np.float32], float]]:
        """The middle of each group's habits, and how far its members typically are from it."""
        found = {}
        for name in {EVERYONE, *self.names.tolist()}:
            own = self.habits if name == EVERYONE else self.habits[self.names == name]
            if len(own):
                middle = own.mean(0)
                found[name] = middle, float(np.median(np.linalg.norm(own - middle, axis=1)))
        return found

    def distance(self, name: str, habits: NDArray[np.float32]) -> float | None:
        """How far a user is from a group's middle; 1 is as far as its members typically are. None where
        there is nothing to measure by.
        """
        middle, typical = self._middles.get(name, (habits, 0.0))
        if typical <= 0:
            return None
        return round(float(np.linalg.norm(habits - middle)) / typical, 2)


def _lines(
    known: NDArray[np.float32], names: NDArray[np.object_], least: int
) -> dict[str, NDArray[np.float32]]:
    """What the members of each group that is large enough did, and everyone; nothing of nobody."""
    if not len(names):
        return {}
    groups = {str(name) for name in names.tolist() if (names == name).sum() >= least}
    return {
        name: _quantiles(known if name == EVERYONE else known[names == name])
        for name in sorted(groups | {EVERYONE})
    }


def _quantiles(known: NDArray[np.float32]) -> NDArray[np.float32]:
    """(SHOWN, steps, metrics) of values (users, steps, metrics), NaN where they are unknown."""
    ordered = np.sort(known, axis=0)  # what is unknown comes last
    count = np.isfinite(known).sum(0)
    places = [np.rint(q * np.maximum(count - 1, 0)).astype(np.int64) for q in SHOWN]
    return np.stack([np.take_along_axis(ordered, place[None], axis=0)[0] for place in places])
