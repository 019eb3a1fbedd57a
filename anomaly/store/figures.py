"""Figures for those who watch: sums over the ledger, worked out by the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.store.endings import ended_last
from anomaly.store.lease import LEADER
from anomaly.store.notifications import FAILED, SENDING
from anomaly.store.tables import feedback, leases, notifications, run_stages, runs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database


@dataclass(frozen=True, slots=True)
class Durations:
    """How long one stage of one job took, over all runs that ended.

    counts: for each bound asked for, the stages that took no longer. count: all of them; seconds:
    their sum. latest: the run that went through it and ended last; latest_seconds: how long it took then.
    """

    job: str
    stage: str
    counts: tuple[int, ...]
    count: int
    seconds: float
    latest: Ended
    latest_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended, and when, aware UTC."""

    run_id: int
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that failed, when (aware UTC) and why."""

    at: dt.datetime
    note: str


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

        def work(connection: Connection) -> list[Durations]:
            rows = connection.execute(query).all()
            latest = {(row.job, row.stage): row for row in connection.execute(_latest_stages())}
            return [
                Durations(
                    job,
                    stage,
                    tuple(counts),
                    count,
                    seconds,
                    Ended(latest[job, stage].id, latest[job, stage].finished_at),
                    latest[job, stage].seconds,
                )
                for job, stage, count, seconds, *counts in rows
            ]

        return self._database.read(work)

    def latest_ends(self) -> dict[tuple[str, str], Ended]:
        """The run that ended last, by job and outcome."""
        of = (runs.c.job, runs.c.outcome)
        ended = sa.select(*of, runs.c.id, runs.c.finished_at)
        ended = ended.where(runs.c.outcome.is_not(None), runs.c.finished_at.is_not(None))
        rows = self._database.read(lambda c: c.execute(ended_last(ended, *of)).all())
        return {(job, outcome): Ended(run_id, at) for job, outcome, run_id, at in rows}

    def last_signs(self) -> dict[str, dt.datetime]:
        """The last sign of life of runs that are going on; the oldest of each job, aware UTC."""
        return self._oldest(runs.c.heartbeat_at)

    def last_progress(self) -> dict[str, dt.datetime]:
        """When the work of runs that are going on last got on; the oldest of each job, aware UTC."""
        return self._oldest(runs.c.progress_at)

    def _oldest(self, when: sa.Column[dt.datetime]) -> dict[str, dt.datetime]:
        query = (
            sa.select(runs.c.job, sa.func.min(when))
            .where(runs.c.state == "running", when.is_not(None))
            .group_by(runs.c.job)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))

    def leader_until(self) -> dt.datetime | None:
        """When the scheduler's lease runs out unless renewed, aware UTC; None if none ever led."""
        query = sa.select(leases.c.expires_at).where(leases.c.name == LEADER)
        return self._database.read(lambda c: c.execute(query).scalar_one_or_none())

    def judged(self) -> dict[str, int]:
        """How many flags were judged, by the last verdict on each; remarks are none."""
        last = (
            sa.select(sa.func.max(feedback.c.id))
            .where(feedback.c.verdict.is_not(None))
            .group_by(feedback.c.flag_id)
        )
        query = (
            sa.select(feedback.c.verdict, sa.func.count())
            .where(feedback.c.id.in_(last))
            .group_by(feedback.c.verdict)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))

    def watermarks(self) -> dict[str, dt.datetime]:
        """How far each source has been read by complete runs, aware UTC."""
        query = (
            sa.select(runs.c.source, sa.func.max(runs.c.watermark))
            .where(runs.c.outcome == "complete", runs.c.source.is_not(None))
            .where(runs.c.watermark.is_not(None))
            .group_by(runs.c.source)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))

    def last_source(self) -> str | None:
        """The source that was read last, of those that are known to have been read up to some time."""
        query = (
            sa.select(runs.c.source)
            .where(runs.c.job == "ingest", runs.c.outcome == "complete")
            .where(runs.c.watermark.is_not(None))
            .order_by(runs.c.finished_at.desc(), runs.c.id.desc())
            .limit(1)
        )
        return self._database.read(lambda c: c.execute(query).scalar_one_or_none())

    def notifications(self) -> dict[tuple[str, str], int]:
        """Messages sent, by channel and outcome."""
        by = (notifications.c.channel, notifications.c.outcome)
        # One on its way may still fail: counted now, it would be taken back.
        ended = notifications.c.outcome != SENDING
        query = sa.select(*by, sa.func.count()).where(ended).group_by(*by)
        rows = self._database.read(lambda c: c.execute(query).all())
        return {(channel, outcome): count for channel, outcome, count in rows}

    def last_notifications(self) -> dict[tuple[str, str], dt.datetime]:
        """When the last message ended, by channel and outcome, aware UTC."""
        by = (notifications.c.channel, notifications.c.outcome)
        ended = notifications.c.outcome != SENDING
        query = sa.select(*by, sa.func.max(notifications.c.sent_at)).where(ended).group_by(*by)
        rows = self._database.read(lambda c: c.execute(query).all())
        return {(channel, outcome): at for channel, outcome, at in rows}

    def undelivered(self, since: dt.datetime) -> dict[str, Undelivered]:
        """Channels whose last message failed, since then."""
        last = (
            sa.select(sa.func.max(notifications.c.id))
            .where(notifications.c.outcome != SENDING)
            .group_by(notifications.c.channel)
        )
        query = (
            sa.select(notifications.c.channel, notifications.c.sent_at, notifications.c.note)
            .where(notifications.c.id.in_(last), notifications.c.outcome == FAILED)
            .where(notifications.c.sent_at > since)
            .order_by(notifications.c.channel)
        )
        rows = self._database.read(lambda c: c.execute(query).all())
        return {channel: Undelivered(at, note) for channel, at, note in rows}


def _latest_stages() -> sa.Select[Any]:
    """How long each stage of each job took in the run that ended last, and which it was."""
    of = (runs.c.job, run_stages.c.stage)
    ended = sa.select(*of, runs.c.id, runs.c.finished_at, run_stages.c.seconds)
    ended = ended.join(run_stages, runs.c.id == run_stages.c.run_id)
    return ended_last(ended.where(runs.c.outcome.is_not(None)), *of)
