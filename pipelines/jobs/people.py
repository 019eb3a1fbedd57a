"""What is known of users and days, from files into the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.exclusive import exclusive

if TYPE_CHECKING:
    from pipelines.services import Services


def import_users(services: Services, path: Path) -> int:
    """Write what a file says of users; a user who is known already is replaced.

    Returns: how many. Raises: SourceError, DataError naming file and row.
    """
    from anomaly.sources.people import read_users
    from anomaly.store import UserRow

    rows = [
        UserRow(
            user_id=user.user_id,
            department=user.department,
            role=user.role,
            timezone=user.timezone,
            country=user.country,
            active_from=user.active_from,
            active_to=user.active_to,
        )
        for user in read_users(path)
    ]
    with exclusive(services):
        return services.store.users.write(rows)


def import_calendar(services: Services, path: Path) -> int:
    """Write the events of a file, CSV or .ics.

    Returns: how many. Raises: SourceError, DataError naming file and row.
    """
    from anomaly.sources.calendars import read_calendar
    from anomaly.store import EventRow

    rows = [
        EventRow(
            kind=event.kind,
            start=event.start,
            end=event.end,
            name=event.name,
            user_id=event.user_id,
            cohort=event.cohort,
        )
        for event in read_calendar(path, services.timezone)
    ]
    with exclusive(services):
        return services.store.events.write(rows)
