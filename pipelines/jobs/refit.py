"""Fits the threshold to what was said of flags, as suppressions that can be read and revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.feedback import Suppression
from anomaly.months import Month, parse_duration
from anomaly.refit import Refit, refit

if TYPE_CHECKING:
    from pipelines.services import Services

AUTHOR = "anomaly"


def planned(services: Services) -> Refit:
    """What the verdicts ask for; changes nothing."""
    found = services.store.feedback.judged()
    budget = services.settings.threshold.false_flags_per_1000_user_months
    return refit(found.judged, found.flags, found.user_months, budget)


def refit_threshold(services: Services) -> tuple[list[int], int]:
    """Ask for more evidence where verdicts say so, from the month after the last judged one on.

    What an earlier refit asked for and this one does not is revoked.
    Returns: the numbers of the suppressions that came, and how many went.
    """
    newest = services.store.feedback.judged().newest
    if newest is None:
        return [], 0
    now = services.clock()
    found = planned(services)
    start = Month.parse(newest).end(services.timezone)
    keep = max(now, start) + parse_duration(services.settings.feedback.keep)
    new = [
        Suppression(
            start=start,
            end=keep,
            reason=f"refit: {group.wrong} of {group.judged} judged false; {found.words}",
            author=AUTHOR,
            metric=group.metric,
            kind=group.kind,
            direction=group.direction,
            least_score=group.least_score,
        )
        for group in found.groups
        if group.least_score is not None
    ]
    return services.store.suppressions.replace(AUTHOR, new, now)
