"""One pass over a stretch of time: twin, network, surprise, day by day, each day from earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly import features, surprise, twin
from anomaly.calendar import LocalCalendar, day_starts, local_calendar
from anomaly.exceptions import ModelError
from anomaly.likelihoods.forecast import Forecast
from anomaly.panel import DAY_SECONDS
from anomaly.twin import TwinForecast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import NDArray

    from anomaly.calendar import CalendarContext
    from anomaly.features import Observed
    from anomaly.likelihoods.links import Links
    from anomaly.model import Model
    from anomaly.networks.runtime import Network
    from anomaly.networks.silent import Silent
    from anomaly.panel import Grid, Panel
    from anomaly.states import States
    from anomaly.twin import TwinPrior, TwinState

ALL = np.s_[:]  # users and steps
LEAST_LIKELY = -20.0  # nats: once in 500 million values
TRAIN_SHARE = 0.75  # of history in time; the rest validates and calibrates


def days_of(grid: Grid, timezone: str) -> list[tuple[int, int]]:
    """Local days as (first, last) step indices, last exclusive."""
    starts = day_starts(grid, timezone)
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(grid)], strict=True))


def later_from(grid: Grid, timezone: str) -> int:
    """The step at which later history begins, which no training sees: a day's start where there are
    enough days.
    """
    steps = len(grid)
    starts = np.array([first for first, _ in days_of(grid, timezone)])
    target = int(steps * TRAIN_SHARE)
    inside = starts[(starts > steps // 2) & (starts < steps * 0.9)]
    return int(inside[np.abs(inside - target).argmin()]) if len(inside) else target


def log_likelihood(said: Forecast, panel: Panel, links: Links) -> float:
    """Mean log-likelihood of the panel's known values, nats: each metric by itself. NaN without any.

    No value counts as less likely than LEAST_LIKELY, so that one giant does not decide for all.
    Args: said: (users, steps, metrics) of the panel.
    """
    seen = features.censored(features.observe(panel, links), links)
    if not seen.mask.any():
        return float("nan")
    found = said.log_likelihood(seen.active, seen.low, seen.high)[seen.mask]
    return float(np.maximum(found, LEAST_LIKELY).mean(dtype=np.float64))


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


@dataclass(frozen=True)
class Reading:
    """What was forecast and how far observations lay from it, all (users, steps, metrics).

    seen: what was read. said: the twin's word. corrections: (heads, users, steps, metrics, OUTPUTS), of
    each metric by itself, by each head of the network. joint: log odds given the metrics before it in
    the step, under what all heads say; NaN where unknown. Forecasts and odds of metrics by themselves
    are worked out when asked for, of some users and steps (an index of the leading axes): a month's
    score needs few.
    """

    seen: Observed
    said: TwinForecast
    corrections: NDArray[np.float32]
    joint: NDArray[np.float32]

    def twin(self, place: Any = ALL) -> Forecast:
        """The twin's forecast."""
        return self.said.at(place).likelihood()

    def forecast(self, place: Any = ALL) -> Forecast:
        """The network's (its reconstruction, if it does not forecast)."""
        return features.corrected(self.said.at(place), self.corrections[0][place])

    def marginal(self, place: Any = ALL) -> NDArray[np.float32]:
        """Log odds of each metric by itself, under what all heads say."""
        together = features.pooled(np.stack([head[place] for head in self.corrections]))
        said = features.corrected(self.said.at(place), together)
        return surprise.log_odds(self.seen.at(place), said)


def read(
    panel: Panel,
    links: Links,
    prior: TwinPrior,
    network: Network | Silent,
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
    logit, location, spread = (np.empty(panel.shape, np.float32) for _ in range(3))
    said = TwinForecast(logit, location, spread, prior.families)
    shape = (len(network.spec.heads), *panel.shape, features.OUTPUTS)
    corrections, joint = np.empty(shape, np.float32), np.empty(panel.shape, np.float32)
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
        heads, memory = network.read(given, now, memory)
        logit[at], location[at] = day.said.active_logit, day.said.location
        spread[at] = day.said.spread
        corrections[:, :, day.first : day.last] = heads[:, :, :, 0]
        given_others = features.corrected(day.said, features.pooled(heads[:, :, :, 1]))
        joint[at] = surprise.log_odds(part, given_others)
        state = day.after
    reading = Reading(seen, said, corrections, joint)
    return reading, replace(states, twin=state, lagged=lagged, memory=memory)


def free_run(model: Model, states: States, grid: Grid, context: CalendarContext) -> Forecast:
    """Forecast the coming days, each step fed with what was expected of the steps before it.

    Args: states: at the start of grid; grid: the coming steps, which nobody has seen.
    Returns: (users, steps, metrics). Habits stay as they are: nothing is learnt from expectations.
    Raises: ModelError if the network reconstructs: it says nothing of what it has not read.
    """
    spec, network = model.network_spec, model.network
    if spec.objective == "reconstruct":
        raise ModelError(
            "this network reconstructs what it has read, so it cannot run freely. Train one with "
            "[model] objective = 'forecast' or 'both'."
        )
    calendar = local_calendar(states.users, grid, context)
    level = twin.levels(states.twin, model.prior)
    lagged, memory = states.lagged, states.memory
    word = np.zeros((len(states.users), 1, spec.metrics, features.OUTPUTS), np.float32)
    words: list[Forecast] = []
    for first, last in days_of(grid, model.timezone):
        for step in range(first, last):
            at = np.s_[:, step : step + 1]
            said = twin.forecast(states.twin, model.prior, calendar.slot[at])
            given = features.inputs(
                lagged[:, :1], said, level, calendar.features[at], states.twin.days
            )
            heads, after = network.read(given, np.zeros_like(lagged[:, :1]), memory)
            if step == first or spec.mapping != "many-to-one":
                word = heads[0, :, :, 0]
            now = features.expected(said, word)
            if spec.state_arrays > spec.head_states:  # the other head remembers the step itself
                _, after = network.read(given, now, memory)
            lagged, memory = np.concatenate([lagged[:, 1:], now], axis=1), after
            words.append(features.corrected(said, word))
    return Forecast(
        np.concatenate([said.active_logit for said in words], axis=1),
        np.concatenate([said.location for said in words], axis=1),
        np.concatenate([said.spread for said in words], axis=1),
        model.prior.families,
    )


def read_with(
    model: Model, panel: Panel, states: States, context: CalendarContext
) -> tuple[Reading, States]:
    """`read` with everything the model holds."""
    return read(panel, model.links, model.prior, model.network, model.timezone, states, context)
