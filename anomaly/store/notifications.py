"""What people were told: each flag and digest once a channel, whoever tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from anomaly.store.tables import flags, notifications, told

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

SENDING, SENT, FAILED = "sending", "sent", "failed"


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that is ours to send. subjects: what it may tell of; others tell the rest."""

    id: int
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class ToldFlag:
    """A flag that a channel was told of, as it was when it was published last. end: exclusive."""

    user_id: str
    start: dt.datetime
    end: dt.datetime


class Notifications:
    """Messages, and what they told of. A message that failed told of nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self,
        channel: str,
        kind: str,
        subjects: Sequence[str],
        now: dt.datetime,
        *,
        month: str | None = None,
        run_id: int | None = None,
    ) -> Claim | None:
        """Claim what a channel has not been told of; None if another has claimed all of it."""
        entered = sa.insert(notifications).values(
            channel=channel,
            kind=kind,
            month=month,
            run_id=run_id,
            outcome=SENDING,
            note="",
            sent_at=now,
        )

        def work(connection: Connection) -> Claim | None:
            number = connection.execute(entered.returning(notifications.c.id)).scalar_one()
            rows = [
                {"channel": channel, "subject": subject, "notification_id": number}
                for subject in subjects
            ]
            insert = self._database.insert(told).on_conflict_do_nothing()
            ours = connection.execute(insert.returning(told.c.subject), rows).scalars().all()
            if not ours:
                connection.execute(sa.delete(notifications).where(notifications.c.id == number))
                return None
            return Claim(number, frozenset(ours))

        return self._database.write(work)

    def settle(self, claim: Claim, outcome: str, note: str, now: dt.datetime) -> None:
        """Say how sending ended; what failed is free to be claimed again."""
        self._database.write(lambda c: _settle(c, [claim.id], outcome, note, now))

    def abandon(self, before: dt.datetime, now: dt.datetime) -> None:
        """Free what processes claimed before `before` and never settled: they died meanwhile."""
        lost = sa.select(notifications.c.id).where(
            notifications.c.outcome == SENDING, notifications.c.sent_at < before
        )

        def work(connection: Connection) -> None:
            numbers = connection.execute(lost).scalars().all()
            _settle(connection, numbers, FAILED, "its process ended while it was sent", now)

        self._database.write(work)

    def record(self, channel: str, kind: str, outcome: str, note: str, now: dt.datetime) -> None:
        """Enter a message that told of nothing, such as a test."""
        entered = sa.insert(notifications).values(
            channel=channel, kind=kind, outcome=outcome, note=note, sent_at=now
        )
        self._database.write(lambda c: c.execute(entered))

    def subjects(self, channel: str) -> set[str]:
        """What a channel was told of."""
        query = sa.select(told.c.subject).where(told.c.channel == channel)
        return set(self._database.read(lambda c: c.execute(query).scalars().all()))

    def told_flags(self, channel: str, months: Sequence[str]) -> list[ToldFlag]:
        """The flags of these months that a channel was told of, superseded since or not."""
        query = (
            sa.select(flags.c.user_id, flags.c.start, flags.c.end)
            .join(told, told.c.subject == flags.c.flag_id)
            .where(told.c.channel == channel, flags.c.month.in_(months))
            .distinct()
        )
        return [ToldFlag(*row) for row in self._database.read(lambda c: c.execute(query).all())]

    def count_since(self, channel: str, since: dt.datetime) -> int:
        """How many messages went to a channel since then, whatever became of them."""
        query = (
            sa.select(sa.func.count())
            .select_from(notifications)
            .where(notifications.c.channel == channel, notifications.c.sent_at > since)
        )
        return self._database.read(lambda c: c.execute(query).scalar_one())


def _settle(
    connection: Connection, numbers: Sequence[int], outcome: str, note: str, now: dt.datetime
) -> None:
    settled = sa.update(notifications).where(notifications.c.id.in_(numbers))
    connection.execute(settled.values(outcome=outcome, note=note, sent_at=now))
    if outcome == FAILED:
        connection.execute(sa.delete(told).where(told.c.notification_id.in_(numbers)))
