"""What was said of flags, and what follows from it, each in one transaction."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import ConflictError
from anomaly.feedback import RIGHT, VERDICTS, Label, Remark, Terms, contradictions
from anomaly.refit import Judged
from anomaly.store.database import row_values
from anomaly.store.entities import Consequence, FeedbackRow, JudgedMonths
from anomaly.store.flags import visible
from anomaly.store.suppressions import cohort_of, enter, withdraw
from anomaly.store.tables import baselines, feedback, flags_current, runs_current, states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

DAY = dt.timedelta(days=1)
JUDGED_MONTHS = 12  # the newest with verdicts, on which the refit rests


class Feedback:
    """Verdicts, remarks, and the baselines that began afresh."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def label(self, labels: Sequence[Label], terms: Terms, now: dt.datetime) -> list[Consequence]:
        """Give verdicts, all or none. They stay with the flags when their month is run again.

        A verdict that replaces another takes back what had followed from that one.
        Raises: UsageError if two contradict each other or a flag is not to be seen; ConflictError if
            a flag has another verdict than its author has seen.
        """
        contradictions(labels)

        def work(connection: Connection) -> list[Consequence]:
            return [_label(connection, label, terms, now) for label in labels]

        return self._database.write(work)

    def remark(self, remark: Remark, now: dt.datetime) -> None:
        """Comment on a flag, set its status, or hand it to somebody.

        Raises: UsageError if the flag is not to be seen.
        """
        values = {
            "flag_id": remark.flag_id,
            "status": remark.status,
            "assignee": remark.assignee,
            "note": remark.note,
            "author": remark.author,
            "given_at": now,
        }

        def work(connection: Connection) -> None:
            visible(connection, remark.flag_id)
            connection.execute(sa.insert(feedback).values(values))

        self._database.write(work)

    def said(self, flag_id: str) -> list[FeedbackRow]:
        """What was said of a flag, the oldest first."""
        query = sa.select(feedback).where(feedback.c.flag_id == flag_id).order_by(feedback.c.id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [FeedbackRow(**row_values(row)) for row in rows]

    def baselines(self) -> dict[str, dt.datetime]:
        """Since when each user's baseline counts afresh, for those who have a new normal."""
        query = sa.select(baselines.c.user_id, sa.func.max(baselines.c.start)).group_by(
            baselines.c.user_id
        )
        rows = self._database.read(lambda c: c.execute(query).all())
        return {row[0]: row[1] for row in rows}

    def verdicts(self, month: str | None = None) -> dict[str, int]:
        """How many flags have each verdict, in the order of VERDICTS."""
        said, view = feedback, flags_current
        last = sa.select(sa.func.max(said.c.id)).where(said.c.verdict.is_not(None))
        query = sa.select(said.c.verdict, sa.func.count()).where(
            said.c.id.in_(last.group_by(said.c.flag_id))
        )
        if month is not None:
            query = query.where(
                said.c.flag_id.in_(sa.select(view.c.flag_id).where(view.c.month == month))
            )
        rows = self._database.read(lambda c: c.execute(query.group_by(said.c.verdict)).all())
        counts = {row[0]: int(row[1]) for row in rows}
        return {verdict: counts[verdict] for verdict in VERDICTS if verdict in counts}

    def judged(self, months: int = JUDGED_MONTHS) -> JudgedMonths:
        """The newest months in which flags have verdicts, for the refit."""
        view, done = flags_current, runs_current
        judged = sa.select(view.c.month).where(view.c.label.is_not(None)).distinct()
        chosen = judged.order_by(view.c.month.desc()).limit(months)
        names = [view.c[name] for name in ("metrics", "kind", "direction", "score", "label")]

        def work(connection: Connection) -> tuple[list[str], list[sa.Row[Any]], int]:
            newest = list(connection.execute(chosen).scalars())
            rows = connection.execute(sa.select(*names).where(view.c.month.in_(newest))).all()
            scored = sa.select(sa.func.sum(done.c.users_scored)).where(
                done.c.month.in_(newest), done.c.job == "month"
            )
            return newest, list(rows), int(connection.execute(scored).scalar() or 0)

        newest, rows, user_months = self._database.read(work)
        groups = [(row.metrics.split(";", 1)[0], row.kind, row.direction) for row in rows]
        return JudgedMonths(
            newest=max(newest, default=None),
            judged=tuple(
                Judged(group, row.score, row.label in RIGHT)
                for group, row in zip(groups, rows, strict=True)
                if row.label is not None
            ),
            flags=dict(Counter(groups)),
            user_months=user_months,
        )

    def precision(self) -> float | None:
        """The share of judged flags that told of a real change; None without any."""
        counts = self.verdicts()
        judged = sum(counts.values())
        return sum(counts.get(verdict, 0) for verdict in RIGHT) / judged if judged else None


@dataclass(frozen=True, slots=True)
class _Standing:
    """The last verdict on a flag."""

    verdict: str
    author: str
    given_at: dt.datetime


def _label(connection: Connection, label: Label, terms: Terms, now: dt.datetime) -> Consequence:
    row = visible(connection, label.flag_id)
    _refuse_unseen(label, _standing(connection, label.flag_id))
    connection.execute(
        sa.insert(feedback).values(
            flag_id=label.flag_id,
            verdict=label.verdict,
            status="closed",
            note=label.note,
            author=label.author,
            given_at=now,
        )
    )
    shown = withdraw(connection, label.flag_id, label.author, now)
    _forget(connection, row.user_id, label.flag_id)
    cohort = cohort_of(connection, row.run_id, row.user_id)
    asked = terms.suppression(row, label.flag_id, label, cohort, now)
    number, quieted = enter(connection, asked, now) if asked is not None else (None, 0)
    if label.verdict == "new_normal":
        _begin(connection, row.user_id, label, row.start, now)
    return Consequence(
        label.flag_id,
        label.verdict,
        number,
        quieted - shown,
        row.start if label.verdict == "new_normal" else None,
    )


def _standing(connection: Connection, flag_id: str) -> _Standing | None:
    query = (
        sa.select(feedback.c.verdict, feedback.c.author, feedback.c.given_at)
        .where(feedback.c.flag_id == flag_id, feedback.c.verdict.is_not(None))
        .order_by(feedback.c.id.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _Standing(row[0], row[1], row[2])


def _refuse_unseen(label: Label, standing: _Standing | None) -> None:
    if standing is None or standing.verdict in (label.verdict, label.replacing):
        return
    raise ConflictError(
        f"flag {label.flag_id}: {standing.author} said {standing.verdict} on "
        f"{standing.given_at:%Y-%m-%d %H:%M} UTC. To overrule it, say that it replaces "
        f"{standing.verdict}; both stay in the flag's history."
    )


def _begin(
    connection: Connection, user: str, label: Label, start: dt.datetime, now: dt.datetime
) -> None:
    """From here on the user's baseline starts afresh; what is known of the user is built anew."""
    connection.execute(
        sa.insert(baselines).values(
            user_id=user, flag_id=label.flag_id, start=start, author=label.author, created_at=now
        )
    )
    _drop_states(connection, user, start)


def _forget(connection: Connection, user: str, flag_id: str) -> None:
    """Take back the fresh start that an earlier verdict on this flag had made."""
    known = (baselines.c.user_id == user) & (baselines.c.flag_id == flag_id)
    start = connection.execute(sa.select(baselines.c.start).where(known)).scalar()
    if start is not None:
        connection.execute(sa.delete(baselines).where(known))
        _drop_states(connection, user, start)


def _drop_states(connection: Connection, user: str, start: dt.datetime) -> None:
    """Drop what is known of a user at the ends of months from `start` on; the next run rebuilds it.

    A day earlier counts too: the month of `start` may be another one in the grid's time zone.
    """
    month = f"{start - DAY:%Y-%m}"
    connection.execute(sa.delete(states).where(states.c.user_id == user, states.c.month >= month))
