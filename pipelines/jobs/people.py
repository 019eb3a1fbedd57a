"""What is known of users and days, from files into the database."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import DataError
from pipelines.door import ALWAYS, keep_names, open_door
from pipelines.exclusive import exclusive
from pipelines.jobs.events import Entered, enter, withdraw_all_but

if TYPE_CHECKING:
    from anomaly.sources.calendars import CalendarEntry
    from pipelines.door import Door
    from pipelines.services import Services

SOURCE_CALENDAR = "calendar of [source]"  # who says so
UNREADABLE = "unreadable_event"


def import_users(services: Services, path: Path) -> int:
    """Write what a file says of users; a user who is known already is replaced.

    An erased user is left out until rows of a later time have come.
    Returns: how many. Raises: SourceError, DataError naming file and row.
    """
    from anomaly.sources.people import read_users
    from anomaly.store import UserRow

    people = read_users(path)
    with exclusive(services):
        door = open_door(services)
        seen = set(services.store.observations.users()) if door.erased else set()
        rows = [
            UserRow(
                user_id=door.let_in(person.user_id),
                department=person.department,
                role=person.role,
                timezone=person.timezone,
                country=person.country,
                active_from=person.active_from,
                active_to=person.active_to,
            )
            for person in people
            if may_come_in(door, person.user_id, seen)
        ]
        keep_names(services, door)
        return services.store.users.write(rows)


def may_come_in(door: Door, name: str, seen: Container[str]) -> bool:
    """Whether anything of a user may be kept: not of one who was erased and not seen since."""
    user = door.user(name)
    return door.kept_out_until(user) == ALWAYS or user in seen


def import_calendar(services: Services, path: Path, author: str = "") -> Entered:
    """Write the events of a file, CSV or .ics.

    Raises: SourceError, DataError naming file and row.
    """
    from anomaly.sources.calendars import read_calendar

    entries = read_calendar(path, services.timezone)
    with exclusive(services):
        return enter_entries(services, entries, author)


def read_calendar_of_source(services: Services) -> Entered | None:
    """Make the calendar what [source] says of it, where it says anything; the lease is held already.

    A row that is no event is set aside with its reason. An event that the source no longer has is
    withdrawn; those of other origin stay.
    """
    settings = services.settings.source
    if settings.calendar_table is None and settings.calendar_query is None:
        return None
    from anomaly.sources.calendars import entry_of
    from anomaly.sources.database import read_events

    entries, bad = [], []
    for cells in read_events(settings):
        try:
            entries.append(entry_of(cells, settings.timezone))
        except DataError as error:
            bad.append((cells["kind"].place, str(error)))
    services.store.rejects.write(SOURCE_CALENDAR, UNREADABLE, bad, services.clock())
    entered = enter_entries(services, entries, SOURCE_CALENDAR)
    gone = withdraw_all_but(services, entered.rows, SOURCE_CALENDAR)
    structlog.get_logger().info(
        "calendar_read",
        events=len(entries),
        new=len(entered.new),
        withdrawn=gone,
        set_aside=len(bad),
    )
    return entered


def enter_entries(services: Services, entries: Sequence[CalendarEntry], author: str) -> Entered:
    """Let events in; the lease is held already.

    With pseudonyms, what a user's own event is called is not kept: it often says a name. Events of
    an erased user that ended before the erasure are left out.
    """
    from anomaly.store import EventRow

    door = open_door(services)
    rows = []
    for event in entries:
        rest = (event.kind, event.start, event.end)
        if event.user_id is None:
            rows.append(EventRow(*rest, event.name, None, event.cohort))
        elif event.end > door.kept_out_until(door.user(event.user_id)):
            name = "" if door.pseudonymise else event.name
            rows.append(EventRow(*rest, name, door.let_in(event.user_id)))
    keep_names(services, door)
    return enter(services, rows, author)
