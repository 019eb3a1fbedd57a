"""The work of one shard: read its users' month, score it, and say what is to be published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.records import UserMonth
from pipelines.jobs.books import ShardResult
from pipelines.jobs.reading import read_panel
from pipelines.jobs.states import Memory, specs_of
from pipelines.watch import held

if TYPE_CHECKING:
    from anomaly.engine import Reference
    from anomaly.months import Month
    from pipelines.jobs.reading import Known, Span
    from pipelines.jobs.states import MemoryShelf, Past
    from pipelines.services import Services

NOT_SELECTED = "not_selected"
FAILED = "scoring_failed"


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored shard. rows: read for it; negative: of them, counts below zero, left out.

    seconds: it took; memory: bytes its process held at its end.
    """

    result: ShardResult
    rows: int
    negative: int
    seconds: float
    memory: int


@dataclass(frozen=True)
class Scoring:
    """Scores shards of a month, any number at a time and anywhere; nothing is written.

    closed: whether states are to be kept. What concerns single users comes with their shard, so that
    what travels to other machines does not grow with their number.
    """

    services: Services
    month: Month
    span: Span
    past: Past
    shelf: MemoryShelf | None
    reference: Reference
    closed: bool

    def __call__(self, known: Known) -> Scored:
        """Score the users who are known."""
        began = time.perf_counter()
        model, users = self.past.model, known.people.users
        memory = Memory(self.services, self.shelf, model, self.month, self.past, known)
        states = memory.of(users)
        days = known.days_of(states)
        laid = read_panel(self.services, self.span, known.people, users, specs_of(model), days)
        scored = self.services.engine().score(
            model,
            laid.panel,
            states,
            self.reference,
            str(self.month),
            days,
            self.services.configuration,
            known.peering,
        )
        learnt = dict(zip(users, scored.states.pack(), strict=True)) if self.closed else {}
        bands = {flag.flag_id: scored.band(flag) for flag in scored.flags}
        return Scored(
            ShardResult(scored.flags, scored.user_months, learnt, bands),
            laid.rows,
            laid.negative,
            time.perf_counter() - began,
            held(),
        )


def unscored(users: Sequence[str], reason: str) -> ShardResult:
    """The months of users of whom nothing can be said, and why."""
    months = [
        UserMonth(
            user_id=user,
            cohort="",
            score=0.0,
            p_value=1.0,
            flags=0,
            worst_at=None,
            metrics="",
            self_percentile=50.0,
            peer_percentile=50.0,
            all_percentile=50.0,
            peer_count=0,
            confidence=0.0,
            skipped=reason,
        )
        for user in users
    ]
    return ShardResult([], months)


def joined(parts: Sequence[ShardResult], users: Sequence[str]) -> ShardResult:
    """The parts of one shard as a whole, users in their order."""
    place = {user: at for at, user in enumerate(users)}
    months = [month for part in parts for month in part.user_months]
    return ShardResult(
        [flag for part in parts for flag in part.flags],
        sorted(months, key=lambda month: place[month.user_id]),
        {user: state for part in parts for user, state in part.states.items()},
        {flag_id: band for part in parts for flag_id, band in part.bands.items()},
    )
