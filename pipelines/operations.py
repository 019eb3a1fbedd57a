"""The service around the operator's page: its condition, and what is asked of its scheduler."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.ports import Condition
from pipelines.condition import conditions
from pipelines.jobs.ingest import source_name

if TYPE_CHECKING:
    from pipelines.configuration import Configuration
    from pipelines.schedule import Scheduler
    from pipelines.services import Services


@dataclass(frozen=True, slots=True)
class ServiceOperations:
    """One server's. scheduler: None where another process runs the schedule."""

    services: Services
    scheduler: Scheduler | None
    configuration: Configuration

    def now(self) -> dt.datetime:
        """The time."""
        return self.services.clock()

    def conditions(self) -> Sequence[Condition]:
        """How each thing is that the service leans on."""
        return conditions(self.services, self.scheduler, self.configuration.refused)

    def source(self) -> str | None:
        """The source that the schedule reads, as the ledger calls it."""
        return source_name(self.services.settings.source)

    def ask(
        self, author: str, action: str, month: str | None, target: int | None, reason: str
    ) -> None:
        """Ask the scheduler for something, with a row in the audit.

        Raises: UsageError if the run to cancel is not there.
        """
        services = self.services
        subject = f"month:{month}" if month is not None else "schedule:all"
        if target is not None:
            services.store.ledger.get(target)
            subject = f"run:{target}"
        services.audit.record(author, f"operate.{action}", subject, reason)
        services.store.requests.ask(
            action, month, author, services.clock(), reason=reason, target=target
        )
