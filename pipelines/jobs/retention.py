"""What [retention] says is no longer to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.months import month_of

if TYPE_CHECKING:
    from pipelines.services import Services


def due(services: Services) -> list[tuple[str, str, int]]:
    """What is due for deletion: what, how long it is kept, how many rows."""
    months = services.settings.retention.observations_months
    if months is None:
        return [("observations", "for ever", 0)]
    oldest = month_of(services.clock(), services.timezone).plus(-months)
    rows = services.store.observations.count(None, oldest.start(services.timezone))
    return [("observations", f"{months} months", rows)]
