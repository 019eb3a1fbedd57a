"""What [retention] says is no longer to be kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.months import month_of

if TYPE_CHECKING:
    from anomaly.months import Month
    from pipelines.services import Services


def kept_since(services: Services) -> Month | None:
    """The first month whose observations are kept; None: all are."""
    months = services.settings.retention.observations_months
    if months is None:
        return None
    return month_of(services.clock(), services.timezone).plus(-months)


def due(services: Services) -> list[tuple[str, str, int]]:
    """What is due for deletion: what, how long it is kept, how many rows."""
    oldest = kept_since(services)
    if oldest is None:
        return [("observations", "for ever", 0)]
    rows = services.store.observations.count(None, oldest.start(services.timezone))
    return [("observations", f"since {oldest}", rows)]
