"""Events into the calendar and out of it; months that are closed are judged anew where they touch them.

The models stay as they are: only the users concerned are scored again, in the months that the event
overlaps and in those after them, whose baselines had lived through it. What stood before is kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anomaly.months import month_of, months_between
from pipelines.exclusive import exclusive
from pipelines.jobs.late import closed
from pipelines.jobs.reading import People, peering_of, people_before
from pipelines.jobs.reopen import take_in

if TYPE_CHECKING:
    from anomaly.feedback import Suppression
    from anomaly.store import EventEntry, EventRow
    from pipelines.jobs.books import Outcome
    from pipelines.services import Services

INSTANT = dt.timedelta(microseconds=1)
FAR = dt.datetime.max.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of events. rows: all that were given; new: those the calendar did not have. nobody:
    whom some of them concern, of whom nothing is known.
    """

    rows: Sequence[EventRow]
    new: Sequence[EventRow]
    nobody: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejudged:
    """Closed months that were judged anew, and those that wait: how many users, by month."""

    done: Sequence[Outcome]
    waiting: dict[str, int]


def enter(services: Services, rows: Sequence[EventRow], author: str) -> Entered:
    """Add events to the calendar; the lease is held already.

    Whom they concern is noted before they are written: if that fails, users are looked at again of
    whom nothing has changed, which changes nothing.
    """
    new = services.store.events.unknown(rows)
    people = people_before(services, FAR) if new else People({}, {})
    nobody = {row.whom for row in new if not concerned(services, row, people)}
    note(services, new)
    services.store.events.write(new, services.clock(), author)
    return Entered(rows, new, tuple(sorted(nobody)))


def withdraw(services: Services, event_id: str, author: str) -> EventEntry:
    """Take an event out of the calendar; whom it concerned is judged anew without it.

    Raises: UsageError if the calendar has no such event.
    """
    with exclusive(services):
        entry = services.store.events.get(event_id)
        note(services, [entry.event])
        services.store.events.withdraw(entry.event_id, services.clock(), author)
    return entry


def withdraw_all_but(services: Services, rows: Sequence[EventRow], author: str) -> int:
    """Take those events of an author out of the calendar that are not among these; the lease is held
    already. Gives how many.
    """
    kept = {row.in_utc for row in rows}
    gone = [
        entry
        for entry in services.store.events.list()
        if entry.author == author and entry.event not in kept
    ]
    note(services, [entry.event for entry in gone])
    for entry in gone:
        services.store.events.withdraw(entry.event_id, services.clock(), author)
    return len(gone)


def rejudge(services: Services) -> Rejudged:
    """Take late rows and events into the months that are closed, now instead of with the next run."""
    with exclusive(services) as holding:
        done = list(take_in(services, holding))
    return Rejudged(done, services.store.late.waiting())


def note(services: Services, events: Sequence[EventRow]) -> None:
    """Note whom events concern in months that are closed."""
    known = closed(services)
    past = [event for event in events if known is not None and event.start < known.until]
    if known is None or not past:
        return
    people = people_before(services, known.until)
    for event in past:
        end = min(event.end, known.until) - INSTANT
        users = concerned(services, event, people)
        for month in months_between(
            month_of(event.start, services.timezone), month_of(end, services.timezone)
        ):
            services.store.late.note(str(month), users, services.clock())


def unknown_to(services: Services, one: Suppression) -> list[str]:
    """What a suppression names of which nothing is known yet: its user, its peer group, its metric."""
    people = people_before(services, FAR)
    named = [replace(one, cohort=None)] if one.user_id is not None else []
    named += [replace(one, user_id=None)] if one.cohort is not None else []
    nobody = [each.whom for each in named if not concerned(services, each, people)]
    strange = one.metric is not None and one.metric not in services.store.observations.metrics()
    return nobody + ([f"metric {one.metric}"] if strange else [])


def concerned(services: Services, event: EventRow | Suppression, people: People) -> list[str]:
    """Whom of these people an event or a suppression may concern: of a peer group, all who were put into
    it or were found to live like it in any month.
    """
    if event.user_id is not None:
        return [event.user_id] if event.user_id in people.first_seen else []
    if event.cohort is None:
        return list(people.users)
    placed = peering_of(services).placed
    ever = services.store.flags.ever_in(event.cohort)
    return [
        user
        for user in people.users
        if user in ever or (user in placed and placed[user].name == event.cohort)
    ]
