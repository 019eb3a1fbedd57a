"""Figures for those who watch: sums over the ledger, worked out by the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.tables import notifications, run_stages, runs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from anomaly.store.database import Database


@dataclass(frozen=True, slots=True)
class Durations:
    """How long one stage of one job took, over all runs that ended.

    counts: for each bound asked for, the stages that took no longer. count: all of them; seconds:
    their sum.
    """

    job: str
    stage: str
    counts: tuple[int, ...]
    count: int
    seconds: float


class Figures:
    """Sums that /metrics shows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def durations(self, bounds: Sequence[float]) -> list[Durations]:
        """Stages of runs that ended, by job and stage, counted into buckets up to these seconds."""
        within = [sa.func.count(sa.case((run_stages.c.seconds <= bound, 1))) for bound in bounds]
        query = (
            sa.select(
                runs.c.job,
                run_stages.c.stage,
                sa.func.count(),
                sa.func.sum(run_stages.c.seconds),
                *within,
            )
            .join(runs, runs.c.id == run_stages.c.run_id)
            # A running stage still grows: counted now, it would move to a higher bucket later.
            .where(runs.c.outcome.is_not(None))
            .group_by(runs.c.job, run_stages.c.stage)
            .order_by(runs.c.job, run_stages.c.stage)
        )
        rows = self._database.read(lambda c: c.execute(query).all())
        return [
            Durations(job, stage, tuple(counts), count, seconds)
            for job, stage, count, seconds, *counts in rows
        ]

    def watermarks(self) -> dict[str, dt.datetime]:
        """How far each source has been read by complete runs, aware UTC."""
        query = (
            sa.select(runs.c.source, sa.func.max(runs.c.watermark))
            .where(runs.c.outcome == "complete", runs.c.source.is_not(None))
            .where(runs.c.watermark.is_not(None))
            .group_by(runs.c.source)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))

    def notifications(self) -> dict[tuple[str, str], int]:
        """Messages sent, by channel and outcome."""
        by = (notifications.c.channel, notifications.c.outcome)
        query = sa.select(*by, sa.func.count()).group_by(*by)
        rows = self._database.read(lambda c: c.execute(query).all())
        return {(channel, outcome): count for channel, outcome, count in rows}
