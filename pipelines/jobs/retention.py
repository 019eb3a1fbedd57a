"""Deletes what [retention] says is no longer to be kept, with a row in the audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import SettingsError
from anomaly.months import month_of

if TYPE_CHECKING:
    from anomaly.months import Month
    from pipelines.exclusive import Holding
    from pipelines.services import Services

SCHEDULE = "schedule"  # who deletes where nobody asks
UNSEEN = "results of superseded and failed runs"
STATES = "states of users"
SET_ASIDE = "rows set aside"


@dataclass(frozen=True, slots=True)
class Due:
    """One kind of rows. since: the first month that is kept, None: all are. rows: older ones."""

    what: str
    since: Month | None
    rows: int


def kept_since(services: Services) -> Month | None:
    """The first month whose observations are kept; None: all are.

    Raises: SettingsError if models would lose what they learn from.
    """
    settings = services.settings
    months, learnt = settings.retention.observations_months, settings.model.history_months
    if months is not None and months < learnt:
        raise SettingsError(
            f"[retention] observations_months = {months} is less than [model] history_months = {learnt}: "
            "models would lose what they learn from. Raise the one or lower the other."
        )
    return _months_ago(services, months)


def due(services: Services) -> list[Due]:
    """What is older than it is to be kept. Deletes nothing."""
    retention, policy = services.store.retention, services.settings.retention
    rows, results, bad = (
        kept_since(services),
        _months_ago(services, policy.superseded_months),
        _months_ago(services, policy.rejects_months),
    )
    # Users enter the first month that is kept with what was known of them at the end of the one before.
    known = None if rows is None else rows.previous()
    zone, in_place = services.timezone, services.store.in_place
    return [
        Due(
            "observations",
            rows,
            0 if rows is None or in_place else services.store.kept.count(None, rows.start(zone)),
        ),
        Due(STATES, known, 0 if known is None else retention.states(str(known))),
        Due(UNSEEN, results, 0 if results is None else retention.unseen(str(results))),
        Due(SET_ASIDE, bad, 0 if bad is None else retention.rejects(bad.start(zone))),
    ]


def delete_due(services: Services, holding: Holding, actor: str = SCHEDULE) -> list[Due]:
    """Delete it; gives what went. Files that are read in place belong to somebody else and stay.

    The row of the audit comes first: what cannot be written down is not deleted. A deletion that is
    interrupted is made good by the next.
    """
    found = [one for one in due(services) if one.rows]
    if not found:
        return []
    holding.check()
    told = "; ".join(f"{one.what} before {one.since}: {one.rows} rows" for one in found)
    services.audit.record(actor, "retention.delete", "database:all", told)
    gone = [Due(one.what, one.since, _delete(services, one)) for one in found]
    structlog.get_logger().info("retention_deleted", **{one.what: one.rows for one in gone})
    return gone


def _delete(services: Services, one: Due) -> int:
    retention, since = services.store.retention, one.since
    if since is None:
        return 0
    start = since.start(services.timezone)
    if one.what == SET_ASIDE:
        return retention.delete_rejects(start)
    if one.what == UNSEEN:
        parts = retention.delete_unseen(str(since))
    elif one.what == STATES:
        parts = retention.delete_states(str(since))
    else:
        retention.delete_late(str(since))
        parts = retention.observations(start, services.store.kept.users())
    rows = 0
    with services.progress.track(f"deleting old {one.what}", 0) as advance:
        for gone in parts:
            rows += gone
            advance(gone)
    return rows


def _months_ago(services: Services, months: int | None) -> Month | None:
    if months is None:
        return None
    return month_of(services.clock(), services.timezone).plus(-months)
