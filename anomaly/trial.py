"""Which of several models should serve: all are put to one trial, on history that none was trained on.

A network has to earn its place: it serves where it forecasts better than the statistical twin beside it
(held-out log-likelihood) and finds at least as much of what was planted, and the same against the
champion. Otherwise the champion stays, unless the twin is better than it, and then the twin serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import DataError
from anomaly.months import month_of
from anomaly.panel import DAY_SECONDS, evenly
from anomaly.planting import plant
from anomaly.reading import later_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anomaly.metrics import MetricSpec
    from anomaly.panel import Grid, Panel
    from anomaly.planting import Planted
    from anomaly.records import Flag

USERS = 200  # of a trial, at most: a few seconds of scoring
BEFORE_DAYS = 92  # of history from which a trial's users are known; more costs and adds little
MOST_TOUCHED = 0.5  # of them; the others tell of false flags
TWIN = "none"  # the cell of a model without a network


@dataclass(frozen=True, slots=True)
class Trial:
    """Some users' history, the month after it, and the same month of those with an incident.

    before, month: panels of the same users; touched: of the users that `planted` names, in its order
    (Planted.user is a row of `month`).
    """

    before: Panel
    month: Panel
    touched: Panel
    planted: tuple[Planted, ...]


@dataclass(frozen=True, slots=True)
class Showing:
    """What a model made of a trial.

    likelihood: mean log-likelihood of a known value of the month, nats; None of a model that
    reconstructs, which has seen what it says. planted: incidents that lie in no flag of the month as
    it was; found: those that a flag overlaps. flags: of the month as it was; users: who were scored.
    """

    version: str
    cell: str
    likelihood: float | None
    planted: int
    found: int
    flags: int
    users: int

    @property
    def share(self) -> float | None:
        """The share of planted incidents that was found; None without any."""
        return self.found / self.planted if self.planted else None

    @property
    def name(self) -> str:
        """What to call the model in a sentence."""
        return f"{'the twin' if self.cell == TWIN else 'network'} {self.version}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Who serves, by version, and the reason in a sentence."""

    version: str
    reason: str


def trial_from(grid: Grid, timezone: str) -> int:
    """The step at which a trial begins: the last month of history, or what training left of it."""
    month = month_of(grid.end - 1, timezone).start(timezone)
    return max(later_from(grid, timezone), int((grid.times < month.timestamp()).sum()))


def lay(history: Panel, cut: int, specs: Mapping[str, MetricSpec], seed: int) -> Trial:
    """Set aside a trial: at most USERS users, incidents planted into what follows step `cut`.

    Users are known from the BEFORE_DAYS before it.

    Raises: DataError if nothing lies before or after the cut, or nobody is there.
    """
    if not 0 < cut < len(history.grid):
        raise DataError(
            f"trial: step {cut} of {len(history.grid)} leaves nothing before or after it. "
            "Take a longer history."
        )
    there = [row for row, first in enumerate(history.first) if first < len(history.grid)]
    if not there:
        raise DataError("trial: nobody is there. Take a month whose rows are kept.")
    some = history.take([there[place] for place in evenly(len(there), USERS)])
    since = int(history.grid.times[cut]) - BEFORE_DAYS * DAY_SECONDS
    known = min(int(np.searchsorted(history.grid.times, since)), cut - 1)
    before, month = some.between(known, cut), some.between(cut, len(some.grid))
    most = max(1, int(len(some.users) * MOST_TOUCHED))
    usual = before if before.mask.any() else None
    changed, planted = plant(month, specs, seed, most, usual=usual)
    return Trial(before, month, changed.take([one.user for one in planted]), planted)


def found_among(
    trial: Trial, real: Sequence[Flag], after: Sequence[Flag]
) -> tuple[int, int]:  # fmt: skip
    """How many incidents lay in no flag before they were planted, and how many of those were found."""
    planted = found = 0
    for incident in trial.planted:
        if _hit(trial, incident, real):
            continue
        planted += 1
        found += _hit(trial, incident, after)
    return planted, found


def _hit(trial: Trial, incident: Planted, flags: Sequence[Flag]) -> bool:
    grid = trial.month.grid
    start = int(grid.times[incident.first])
    end = int(grid.times[incident.last]) if incident.last < len(grid) else grid.end
    user = trial.month.users[incident.user]
    return any(
        flag.user_id == user and flag.start.timestamp() < end and flag.end.timestamp() > start
        for flag in flags
    )


def choose(candidate: Showing, twin: Showing | None, champion: Showing | None) -> Choice:
    """Decide who serves.

    Args: twin: None where the candidate is itself one. champion: who serves now, if it can.
    """
    rivals = [rival for rival in (twin, champion) if rival is not None]
    lost = [why for rival in rivals if (why := _short_of(candidate, rival)) is not None]
    if not lost:
        against = " and ".join(f"{rival.name} ({_figures(rival)})" for rival in rivals)
        beaten = f", better than {against}" if rivals else ""
        return Choice(candidate.version, f"{candidate.name} serves ({_figures(candidate)}){beaten}")
    other = twin or candidate
    stays = champion is not None and (twin is None or _short_of(champion, other) is None)
    serves = champion if stays and champion is not None else other
    return Choice(serves.version, f"{serves.name} serves: {candidate.name} {'; '.join(lost)}")


def better(network: Showing, twin: Showing) -> str:
    """Say which of the two would have been better on a month that is over, and in what."""
    lost, won = _short_of(network, twin), _short_of(twin, network)
    if lost is None:
        return "The network would have been better."
    if won is None:
        return f"The twin would have been better: the network {lost}."
    return f"Neither was better in both: the network {lost}; the twin {won}."


def _short_of(one: Showing, rival: Showing) -> str | None:
    """In what a model falls short of a rival, or None if it is better."""
    if one.likelihood is not None and not math.isfinite(one.likelihood):
        return "forecasts no finite likelihood"
    if one.likelihood is not None and rival.likelihood is not None and (
        one.likelihood <= rival.likelihood
    ):  # fmt: skip
        return (
            f"forecasts no better than {rival.name} "
            f"({one.likelihood:.4f} and {rival.likelihood:.4f} nats per value)"
        )
    if one.share is not None and rival.share is not None and one.share < rival.share:
        return (
            f"finds {one.found} of {one.planted} planted incidents, {rival.name} {rival.found} of "
            f"{rival.planted}"
        )
    return None


def _figures(one: Showing) -> str:
    said = "reconstructs" if one.likelihood is None else f"{one.likelihood:.4f} nats per value"
    return f"{said}, {one.found} of {one.planted} planted incidents found"
