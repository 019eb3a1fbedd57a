"""Month after month, each learning only from what came before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from anomaly.months import months_between
from pipelines.jobs.month import run_month

if TYPE_CHECKING:
    from anomaly.months import Month
    from pipelines.jobs.books import Outcome
    from pipelines.jobs.scope import Options
    from pipelines.services import Services


def backfill(services: Services, first: Month, last: Month, options: Options) -> Iterator[Outcome]:
    """Run each month in order and give its outcome as it ends.

    Raises: UsageError if the last month is before the first; else what `run_month` raises, at the
        month where it happens. The months before it stay done.
    """
    if last < first:
        raise UsageError(f"--from {first} is after --to {last}. Exchange them.")
    for month in months_between(first, last):
        yield run_month(services, month, options)
