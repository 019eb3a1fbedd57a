"""Rebuilds what the champion knows of each user, for a state that was lost or is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from pipelines.exclusive import exclusive
from pipelines.executors import open_executor
from pipelines.jobs.footprint import BASE_MEMORY, shard_memory
from pipelines.jobs.reading import known_of, months_span, people_before
from pipelines.jobs.states import Memory
from pipelines.jobs.train import load_model

if TYPE_CHECKING:
    from anomaly.months import Month
    from pipelines.services import Services


def rebuild_states(services: Services, month: Month) -> tuple[int, str]:
    """Rebuild everyone's state at the start of a month.

    Returns: how many users, and the model's version.
    Raises: UsageError if no model was trained before the month; BusyError.
    """
    with exclusive(services):
        start = month.start(services.timezone)
        champion = services.store.models.champion(start, services.configuration)
        if champion is None:
            raise UsageError(
                f"{month}: no model was trained before it. Train one: anomaly run --month {month}"
            )
        model = load_model(services, champion)
        people = people_before(services, start)
        known = known_of(services, people)
        memory = Memory.open(services, None, model, month, known)
        span = months_span(services, month.previous(), month, model.step)
        each = shard_memory(services, span, len(people.users))
        with open_executor(services.settings, BASE_MEMORY, each) as executor:
            memory.prepare(executor, people.users, anew=True)
        return len(people.users), model.version
