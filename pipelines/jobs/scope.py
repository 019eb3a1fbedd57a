"""What a month's run covers: which steps are over, who is scored, and whether it is the last word."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.exceptions import DataError, UsageError
from anomaly.months import Month, month_of, parse_duration
from pipelines.jobs.reading import (
    People,
    Span,
    months_span,
    people_before,
    step_seconds,
    steps_over,
)

if TYPE_CHECKING:
    from pipelines.services import Services


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked of a run. users: only these, empty for everyone."""

    train: bool = True
    users: tuple[str, ...] = ()
    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run covers: the steps that are over, and whom.

    users: scored, in byte order; others: not asked for. rows: observations within the span.
    complete: the month and its lateness have passed and everyone is scored.
    """

    month: Month
    now: dt.datetime
    span: Span
    people: People
    users: tuple[str, ...]
    others: tuple[str, ...]
    rows: int
    complete: bool
    note: str | None


def scope_of(services: Services, month: Month, options: Options) -> Scope:
    """Decide what a run covers.

    Raises: UsageError if the month has not begun or a user is unknown; DataError if it is empty.
    """
    now = services.clock()
    whole = months_span(services, month, month.next(), step_seconds(services))
    span = steps_over(whole, now)
    if span is None:
        raise UsageError(f"{month}: no step of it is over yet. Run a month that has begun.")
    rows = services.store.observations.count(span.start, span.end)
    if rows == 0:
        raise DataError(_empty(services, month))
    people = people_before(services, span.end)
    users, others = whom_to_score(people, month, options.users)
    closed = is_closed(services, month, now)
    note = None
    if options.users:
        note = f"only {len(users)} of {len(people.users)} users"
    elif not closed:
        note = (
            f"scored until {span.end:%Y-%m-%d %H:%M} UTC; closes "
            f"{closing_time(services, month):%Y-%m-%d %H:%M} UTC"
        )
    complete = closed and not options.users
    return Scope(month, now, span, people, users, others, rows, complete, note)


def closing_time(services: Services, month: Month) -> dt.datetime:
    """When late rows are no longer waited for, aware UTC."""
    return month.end(services.timezone) + parse_duration(services.settings.run.lateness)


def is_closed(services: Services, month: Month, now: dt.datetime) -> bool:
    """Whether a run that starts now is the month's last word."""
    return now >= closing_time(services, month)


def whom_to_score(
    people: People, month: Month, chosen: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Everyone who was ever seen, or those who were asked for; and the others.

    Raises: UsageError if one asked for was never seen.
    """
    unknown = [user for user in chosen if user not in people.first_seen]
    if unknown:
        raise UsageError(
            f"--users: {unknown[0][:40]!r} has no row up to the end of {month}. "
            "See: anomaly users list"
        )
    wanted = set(chosen) or set(people.users)
    users = tuple(user for user in people.users if user in wanted)
    return users, tuple(user for user in people.users if user not in wanted)


def _empty(services: Services, month: Month) -> str:
    span = services.store.observations.span()
    if span is None and services.settings.source.is_named:
        return (
            "the database holds no observations: [source] has given none so far. Look at it: anomaly check; "
            "read it: anomaly schedule --once ingest"
        )
    if span is None:
        return "the database holds no observations. Import some: anomaly import FILE; or name a [source]"
    first, last = (month_of(when, services.timezone) for when in span)
    return (
        f"{month} holds no rows; observations run from {first} to {last}. Run one of those months."
    )
