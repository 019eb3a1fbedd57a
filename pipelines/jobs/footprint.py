"""How much memory a month's work needs, from the sizes of its panels.

Measured over runs of 60 to 500 users, hourly, five metrics: what a process held at the most, less what
it held before, by the cells (users, steps, metrics) it worked on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.jobs.reading import Span
    from pipelines.services import Services

BASE_MEMORY = 600 * 2**20  # bytes: the libraries, TensorFlow among them
CELL_BYTES = 250  # of a user, step and metric that is being scored
TRAINED_CELL_BYTES = 200  # of one that is learnt from


def shard_memory(services: Services, span: Span, users: int) -> int:
    """Bytes that work on a month of a shard needs, where there are so many users in all."""
    metrics = len(services.store.observations.metrics(before=span.end))
    return CELL_BYTES * min(users, services.settings.run.shard_users) * len(span.grid) * metrics
