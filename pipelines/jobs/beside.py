"""A network and its twin on a month that is over: which of them would have been better. Writes nothing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly import trial
from anomaly.exceptions import AnomalyError, UsageError
from anomaly.months import month_of
from pipelines.jobs.reading import calendar_of, months_span, people_before, sample, seen_between
from pipelines.jobs.states import specs_of
from pipelines.jobs.train import MAX_CELLS, history_panel, load_model

if TYPE_CHECKING:
    from anomaly.engine import Model
    from anomaly.months import Month
    from anomaly.store import ModelRow, Run
    from anomaly.trial import Showing, Trial
    from pipelines.services import Services

SEED = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """What both made of the month, or why that cannot be said."""

    network: Showing | None = None
    twin: Showing | None = None
    why_not: str | None = None


def beside(services: Services, month: Month, run: Run) -> Beside:
    """Put the network and the twin of a run to a trial on its month, for a fixed sample of users."""
    try:
        network, twin = (load_model(services, row) for row in pair(services, run))
        laid = lay_month(services, month, run, network)
        calendar, engine = calendar_of(services), services.engine()
        with services.progress.track("comparing with the twin", 2) as advance:
            first = engine.examine(network, laid, calendar)
            advance(1)
            second = engine.examine(twin, laid, calendar)
            advance(1)
    except AnomalyError as error:
        return Beside(why_not=str(error))
    return Beside(first, second)


def pair(services: Services, run: Run) -> tuple[ModelRow, ModelRow]:
    """The network and the twin that were fitted together, one of which scored the run.

    Raises: UsageError if only one of them was fitted.
    """
    models = services.store.models
    row = models.get(str(run.model_version))
    if row.cell == trial.TWIN:
        networks = [other for other in models.list() if other.twin == row.version]
        if networks:
            return networks[0], row
    elif row.twin is not None:
        return row, models.get(row.twin)
    raise UsageError(f"model {row.version} was fitted with nothing beside it to compare it with")


def lay_month(services: Services, month: Month, run: Run, model: Model) -> Trial:
    """The run's month and the history before it, of some users, with incidents planted into a copy.

    Raises: DataError if their rows are no longer there.
    """
    start = month.start(services.timezone)
    learnt = month_of(model.summary.trained_from, services.timezone)
    needed = month_of(start - dt.timedelta(days=trial.BEFORE_DAYS), services.timezone)
    begins = max(learnt, needed)
    span = months_span(services, begins, month.next(), model.step)
    specs = specs_of(model)
    most = max(1, min(trial.USERS, MAX_CELLS // (len(span.grid) * len(specs))))
    users = sample(seen_between(services, start, span.end), most)
    people = people_before(services, span.end)
    panel = history_panel(services, span, people, users, specs)
    if run.watermark is not None:  # a month that is not over
        steps = int(np.searchsorted(panel.grid.times, run.watermark.timestamp()))
        panel = panel.between(0, steps)
    cut = int(np.searchsorted(panel.grid.times, start.timestamp()))
    return trial.lay(panel, cut, specs, SEED)
