"""One pass over a stretch of time: twin, network, surprise, day by day, each day from earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly import features, surprise, twin
from anomaly.calendar import LocalCalendar, day_starts, local_calendar
from anomaly.likelihoods.hurdle import HurdleLogistic
from anomaly.panel import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from anomaly.calendar import CalendarContext
    from anomaly.features import Observed
    from anomaly.likelihoods.links import Links
    from anomaly.model import Model
    from anomaly.networks.runtime import Network
    from anomaly.panel import Grid, Panel
    from anomaly.states import States
    from anomaly.twin import TwinForecast, TwinPrior, TwinState


def days_of(grid: Grid, timezone: str) -> list[tuple[int, int]]:
    """Local days as (first, last) step indices, last exclusive."""
    starts = day_starts(grid, timezone)
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(grid)], strict=True))


@dataclass(frozen=True, slots=True)
class TwinDay:
    """A day as the twin saw it come: steps first to last (exclusive), what it said and knew."""

    first: int
    last: int
    said: TwinForecast
    level: NDArray[np.float32]
    days: NDArray[np.float32]
    after: TwinState


def twin_days(
    seen: Observed,
    calendar: LocalCalendar,
    days: list[tuple[int, int]],
    step: int,
    state: TwinState,
    prior: TwinPrior,
) -> Iterator[TwinDay]:
    """Forecast each day from the days before it, then learn from it."""
    for first, last in days:
        slot = calendar.slot[:, first:last]
        said = twin.forecast(state, prior, slot)
        part = seen.steps(first, last)
        spent = (last - first) * step / DAY_SECONDS
        after = twin.learn(state, said, slot, part.active, part.middle, part.mask, spent)
        yield TwinDay(first, last, said, twin.levels(state, prior), state.days, after)
        state = after


@dataclass(frozen=True, slots=True)
class Reading:
    """What was forecast and how far observations lay from it, all (users, steps, metrics).

    twin: the twin's word; forecast: the network's, of each metric by itself. marginal, joint: log
    odds of each metric by itself and given those before it in the step; NaN where unknown.
    """

    twin: HurdleLogistic
    forecast: HurdleLogistic
    marginal: NDArray[np.float32]
    joint: NDArray[np.float32]


def read(
    panel: Panel,
    links: Links,
    prior: TwinPrior,
    network: Network,
    timezone: str,
    states: States,
    context: CalendarContext,
) -> tuple[Reading, States]:
    """Read a panel from the states at its start; returns the states at its end.

    Only twin, lagged and memory move on; the rest of the states is the scan's.
    """
    seen = features.observe(panel, links)
    calendar = local_calendar(panel.users, panel.grid, context)
    horizon = states.lagged.shape[1]
    shape = panel.shape
    arrays = [np.empty(shape, np.float32) for _ in range(8)]
    lagged, memory, state = states.lagged, states.memory, states.twin
    for day in twin_days(
        seen, calendar, days_of(panel.grid, timezone), panel.grid.step, state, prior
    ):
        at = np.s_[:, day.first : day.last]
        part = seen.steps(day.first, day.last)
        now = features.current(part, day.said, links.hurdle)
        shown = np.concatenate([lagged, now], axis=1)
        lagged = shown[:, -horizon:]
        given = features.inputs(
            shown[:, : now.shape[1]], day.said, day.level, calendar.features[at], day.days
        )
        corrections, memory = network.read(given, now, memory)
        alone = features.corrected(day.said, corrections[:, :, 0])
        chained = features.corrected(day.said, corrections[:, :, 1])
        base = day.said.likelihood()
        values = (
            base.active_logit, base.location, base.scale, alone.active_logit, alone.location, alone.scale,
            surprise.log_odds(part, alone), surprise.log_odds(part, chained),
        )  # fmt: skip
        for array, value in zip(arrays, values, strict=True):
            array[at] = value
        state = day.after
    reading = Reading(
        HurdleLogistic(*arrays[:3]), HurdleLogistic(*arrays[3:6]), arrays[6], arrays[7]
    )
    return reading, replace(states, twin=state, lagged=lagged, memory=memory)


def read_with(
    model: Model, panel: Panel, states: States, context: CalendarContext
) -> tuple[Reading, States]:
    """`read` with everything the model holds."""
    return read(panel, model.links, model.prior, model.network, model.timezone, states, context)
