"""Puts users into another peer group, and takes that back."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from anomaly.peers import EVERYONE
from anomaly.ports import PUBLISHED
from pipelines.jobs.reading import peering_of

if TYPE_CHECKING:
    from pipelines.services import Services

LONGEST_NAME = 200  # characters


def move(
    services: Services, user: str, cohort: str, author: str, reason: str, *, new: bool = False
) -> None:
    """Let a user be compared with a group from the next scored month on; past months stay.

    Args: new: whether the group may be one that nobody is in yet.
    Raises: UsageError for a user who was never seen, or a group that is not there.
    """
    from anomaly.store import Moved

    _refuse_unknown(services, user)
    if not 0 < len(cohort.strip()) <= LONGEST_NAME or not cohort.isprintable():
        raise UsageError(f"cohort: give a printable name of 1 to {LONGEST_NAME} characters.")
    groups = known_groups(services)
    if cohort not in groups and not new:
        near = difflib.get_close_matches(cohort, groups, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(groups))}."
        raise UsageError(f"cohort {cohort[:40]!r} has no members. {hint} A new one: --new")
    services.store.cohorts.move(Moved(user, cohort, services.clock(), author, reason))


def release(services: Services, user: str) -> None:
    """Let habits and columns speak again.

    Raises: UsageError if the user had not been moved.
    """
    if not services.store.cohorts.release(user):
        raise UsageError(f"{user[:40]!r} was not moved. See: anomaly cohorts moved")


def known_groups(services: Services) -> set[str]:
    """Groups that somebody is in: of the newest scored month, of columns, and of those moved."""
    runs = services.store.ledger.month_states(limit=None)
    newest = max((str(run.month) for run in runs if run.state in PUBLISHED), default=None)
    found = set(services.store.flags.cohorts(newest)) if newest else set()
    return found | {EVERYONE} | {placed.name for placed in peering_of(services).placed.values()}


def _refuse_unknown(services: Services, user: str) -> None:
    if user not in services.store.observations.first_seen([user]):
        raise UsageError(f"user {user[:40]!r} was never seen. See: anomaly users list --month")
