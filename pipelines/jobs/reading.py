"""What jobs read: users, calendars and panels, never anything after the instant they ask for."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from anomaly import plugins
from anomaly.calendar import EVENT_KINDS, CalendarContext, Event, days_off, unjudged
from anomaly.grid import make_grid, to_panel
from anomaly.metrics import set_aside_negatives
from anomaly.months import local_days, parse_duration
from anomaly.panel import Grid, Panel
from anomaly.peers import Peering, Placed
from anomaly.rows import SCHEMA, Rows

if TYPE_CHECKING:
    from anomaly.calendar import EventKind
    from anomaly.engine import States
    from anomaly.metrics import MetricSpec
    from anomaly.months import Month
    from anomaly.settings import CalendarSettings
    from anomaly.store import UserRow
    from pipelines.services import Services

KINDS: Mapping[str, EventKind] = {kind: kind for kind in EVENT_KINDS}
DAY = dt.timedelta(days=1)
LEAST_OF_GROUP = 20  # users of one department and role that are learnt from, if there are so many


@dataclass(frozen=True, slots=True)
class People:
    """Who was known before an instant.

    first_seen: seconds UTC of each user's first row, by user in byte order.
    left: seconds UTC after which a user is known to be gone (users.active_to).
    afresh: seconds UTC since when a user has a new normal: what came before is no part of the
    baseline.
    """

    first_seen: Mapping[str, int]
    left: Mapping[str, int]
    afresh: Mapping[str, int] = field(default_factory=dict)

    @property
    def users(self) -> tuple[str, ...]:
        """All of them, in byte order."""
        return tuple(self.first_seen)

    def remembered(self, before: dt.datetime) -> People:
        """As whom they are remembered at an instant: since their new normal, where that was earlier."""
        since = {user: at for user, at in self.afresh.items() if at < before.timestamp()}
        known = {user: since.get(user, at) for user, at in self.first_seen.items()}
        return People(known, self.left, since)


@dataclass(frozen=True)
class Known:
    """What is known of some users before any row is read: who they are, what days they have, and whom
    they were put together with.
    """

    people: People
    calendar: CalendarContext
    peering: Peering = field(default_factory=Peering)

    def of(self, users: Sequence[str]) -> Known:
        """The part that concerns these users, small enough to travel with their shard."""
        people, zones, groups = (
            self.people,
            self.calendar.user_timezones,
            self.calendar.user_cohorts,
        )
        everyone, by_user = self._events
        return Known(
            People(
                {user: people.first_seen[user] for user in users},
                {user: people.left[user] for user in users if user in people.left},
                {user: people.afresh[user] for user in users if user in people.afresh},
            ),
            replace(
                self.calendar,
                user_timezones={user: zones[user] for user in users if user in zones},
                user_cohorts={user: groups[user] for user in users if user in groups},
                events=(*everyone, *(event for user in users for event in by_user.get(user, ()))),
            ),
            self.peering.of(users),
        )

    def days_of(self, states: States) -> CalendarContext:
        """The calendar, with everyone's peer group as it was when these states were settled."""
        if all(event.cohort is None for event in self.calendar.events):
            return self.calendar
        rows = zip(states.users, states.cohort, strict=True)
        names = {user: self.peering.name(user, int(cohort)) for user, cohort in rows}
        return replace(self.calendar, user_cohorts=names)

    @cached_property
    def _events(self) -> tuple[Sequence[Event], Mapping[str, Sequence[Event]]]:
        """Events of everyone or of cohorts, and those of each user."""
        by_user: dict[str, list[Event]] = {}
        for event in self.calendar.events:
            if event.user_id is not None:
                by_user.setdefault(event.user_id, []).append(event)
        return [event for event in self.calendar.events if event.user_id is None], by_user


def people_before(services: Services, end: dt.datetime) -> People:
    """Everyone with a row before `end`; rows after it are not looked at."""
    first = {
        user: int(when.timestamp())
        for user, when in services.store.observations.first_seen().items()
        if when < end
    }
    left = _departures(services.store.users.read(), services.timezone)
    afresh = {
        user: int(when.timestamp())
        for user, when in services.store.feedback.baselines().items()
        if user in first
    }
    return People({user: first[user] for user in sorted(first, key=str.encode)}, left, afresh)


def seen_between(services: Services, start: dt.datetime, end: dt.datetime) -> tuple[str, ...]:
    """Those whose newest row before `end` is not older than `start`, in byte order."""
    newest = services.store.observations.last_seen(before=end)
    return tuple(sorted((user for user, when in newest.items() if when >= start), key=str.encode))


def _departures(users: Iterable[UserRow], timezone: str) -> dict[str, int]:
    return {
        user.user_id: _midnight_after(user.active_to, user.timezone or timezone)
        for user in users
        if user.active_to is not None
    }


def _midnight_after(day: dt.date, timezone: str) -> int:
    noon = dt.datetime(day.year, day.month, day.day, 12, tzinfo=dt.UTC) + DAY
    return int(local_days(int(noon.timestamp()), int(noon.timestamp()) + 1, timezone)[0])


def known_of(services: Services, people: People) -> Known:
    """What the store and the settings know of these people."""
    peering = peering_of(services)
    return Known(people, calendar_of(services, peering), peering)


def peering_of(services: Services) -> Peering:
    """Who was put into which peer group: by hand, else by the columns of [cohorts] by."""
    chosen = services.settings.cohorts
    placed = {}
    for user in services.store.users.read() if chosen.by else ():
        told = {name: getattr(user, name) for name in chosen.by}
        if all(told.values()):
            placed[user.user_id] = Placed(
                " / ".join(told.values()),
                ", ".join(f"{name} is {value}" for name, value in told.items()),
            )
    for moved in services.store.cohorts.moved():
        reason = f": {moved.reason}" if moved.reason else ""
        placed[moved.user_id] = Placed(
            moved.cohort, f"moved by {moved.author} on {moved.assigned_at:%Y-%m-%d}{reason}"
        )
    return Peering(placed, chosen.minimum_members)


def calendar_of(services: Services, peering: Peering | None = None) -> CalendarContext:
    """What is known of days and places: the settings' country and pay-day, users' zones, stored events.

    Peer groups are those that were set; the ones found from habits are known by a model's states alone.
    Raises: SettingsError if the country is none.
    """
    placed = (peering or peering_of(services)).placed
    zones = {
        user.user_id: user.timezone
        for user in services.store.users.read()
        if user.timezone is not None
    }
    events = tuple(
        Event(
            kind=KINDS[row.kind],
            start=int(row.start.timestamp()),
            end=int(row.end.timestamp()),
            user_id=row.user_id,
            cohort=row.cohort,
            name=row.name,
        )
        for row in services.store.events.read()
    )
    given = services.settings.calendar
    cohorts = {user: one.name for user, one in placed.items()}
    return CalendarContext(
        services.timezone, country_of(given), zones, events, cohorts, given.payday
    )


def country_of(calendar: CalendarSettings) -> str | None:
    """The country, or the calendar that is installed, whose free days count.

    Raises: SettingsError if there is none of this name.
    """
    name = calendar.country
    if name is not None and name not in plugins.names("calendars"):
        days_off(name, range(0))
    return name


def sample(
    users: Iterable[str], size: int, groups: Mapping[str, Hashable] | None = None
) -> tuple[str, ...]:
    """At most `size` users, chosen by the hash of their name: the same whoever else is there.

    Args: groups: to which a user belongs, where that is known. Of each at least LEAST_OF_GROUP are
        chosen, but for them all at most half of the sample, so that small groups are heard too.
    """
    groups = groups or {}
    by_hash = sorted(users, key=lambda user: hashlib.sha256(user.encode()).digest())
    kinds = {groups[user] for user in by_hash if user in groups}
    least = min(LEAST_OF_GROUP, size // (2 * len(kinds))) if kinds else 0
    heard: Counter[Hashable] = Counter()
    first, others = [], []
    for user in by_hash:
        group = groups.get(user)
        if group is not None and heard[group] < least:
            heard[group] += 1
            first.append(user)
        else:
            others.append(user)
    return tuple(sorted([*first, *others][:size], key=str.encode))


def step_seconds(services: Services) -> int:
    """Length of a grid step."""
    return int(parse_duration(services.settings.grid.step).total_seconds())


@dataclass(frozen=True, slots=True)
class Span:
    """A grid and the instants [start, end), aware UTC, of which rows are read for it.

    `end` is the true end of the time that is over: a daily grid's last step may be shorter or
    longer than 24 hours.
    """

    grid: Grid
    start: dt.datetime
    end: dt.datetime


def months_span(services: Services, first: Month, after: Month, step: int) -> Span:
    """Steps from the start of `first` to the start of `after`."""
    start, end = first.start(services.timezone), after.start(services.timezone)
    grid = make_grid(int(start.timestamp()), int(end.timestamp()), step, services.timezone)
    return Span(grid, start, end)


def steps_over(span: Span, now: dt.datetime) -> Span | None:
    """The steps of a span that have ended by `now`; None if none has."""
    if now >= span.end:
        return span
    ends = [*span.grid.times[1:].tolist(), int(span.end.timestamp())]
    over = sum(end <= now.timestamp() for end in ends)
    if over == 0:
        return None
    last = dt.datetime.fromtimestamp(ends[over - 1], dt.UTC)
    return Span(span.grid.between(0, over), span.start, last)


def read_rows(services: Services, span: Span, users: Sequence[str]) -> Rows:
    """The observations of these users on this span of time."""
    tables = list(services.store.observations.read(span.start, span.end, users))
    return Rows.from_arrow(pa.concat_tables(tables) if tables else SCHEMA.empty_table())


@dataclass(frozen=True, slots=True)
class Laid:
    """Rows laid out on a grid. rows: how many were read; negative: counts below zero, left out."""

    panel: Panel
    rows: int
    negative: int


def read_panel(
    services: Services,
    span: Span,
    people: People,
    users: Sequence[str],
    specs: Mapping[str, MetricSpec],
    calendar: CalendarContext,
) -> Laid:
    """Lay these users' rows out: users in the order given, metrics in that of `specs`; without what
    happened while an announced event of the calendar lasted.
    """
    rows, negative = set_aside_negatives(
        _since(read_rows(services, span, users), people.first_seen), specs
    )
    panel = to_panel(
        rows,
        span.grid,
        tuple(specs),
        specs,
        first_seen=people.first_seen,
        users=users,
        last_seen=people.left,
        end=int(span.end.timestamp()),
    )
    return Laid(unjudged(panel, calendar), len(rows) + len(negative), len(negative))


def _since(rows: Rows, first_seen: Mapping[str, int]) -> Rows:
    """The rows from each user's first on: what came before a new normal is left out."""
    first = np.array([first_seen.get(user, 0) for user in rows.user_names], dtype=np.int64)
    early = rows.observed_at < first[rows.user_code]
    return rows.take(~early) if early.any() else rows


def chunks(users: Sequence[str], size: int) -> list[Sequence[str]]:
    """Users in runs of at most `size`, in their order."""
    return [users[first : first + size] for first in range(0, len(users), size)]
