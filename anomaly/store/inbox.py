"""What arrives and waits: rows that were set aside, and runs that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.ports import CANCEL, PAUSE, PAUSES, WORK
from anomaly.store.database import row_values
from anomaly.store.entities import RejectRow, Request
from anomaly.store.tables import rejects, requests

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

LONGEST_TEXT = 1_000  # characters kept of a bad row
LONGEST_PLACE = 400  # characters kept of where it was; part of the key, which PostgreSQL bounds


class Rejects:
    """Rows that were set aside, with the reason."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(
        self, source: str, reason: str, rows: Iterable[tuple[str, str]], now: dt.datetime
    ) -> int:
        """Keep bad rows as (location, text); the same one again changes nothing.

        Returns: how many were not known yet.
        """
        # Two places may be equal once cut; one row can then stand for both.
        values = {
            _storable(location, LONGEST_PLACE): _storable(text, LONGEST_TEXT)
            for location, text in rows
        }
        if not values:
            return 0
        insert = self._database.insert(rejects).on_conflict_do_nothing()
        key = {"source": _storable(source, LONGEST_PLACE), "reason": reason, "rejected_at": now}

        new = [{**key, "location": at, "text": text} for at, text in values.items()]
        added = insert.returning(rejects.c.location)
        return self._database.write(lambda c: len(c.execute(added, new).all()))

    def counts(self) -> dict[str, int]:
        """How many are kept, by reason."""
        query = (
            sa.select(rejects.c.reason, sa.func.count())
            .group_by(rejects.c.reason)
            .order_by(rejects.c.reason)
        )
        return dict(self._database.read(lambda c: [tuple(row) for row in c.execute(query)]))

    def list(self, source: str | None = None, limit: int | None = 100) -> list[RejectRow]:
        """Bad rows, the latest first."""
        query = sa.select(rejects).order_by(
            rejects.c.rejected_at.desc(), rejects.c.source, rejects.c.reason, rejects.c.location
        )
        if source is not None:
            query = query.where(rejects.c.source == _storable(source, LONGEST_PLACE))
        rows = self._database.read(lambda c: c.execute(query.limit(limit)).all())
        return [RejectRow(**row_values(row)) for row in rows]


class Requests:
    """What people asked of the scheduler: runs, which it takes up in order, and pauses.

    A pause holds from the moment it is asked for until a resumption is: it is read from these rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(
        self,
        job: str,
        month: str | None,
        author: str,
        now: dt.datetime,
        *,
        reason: str = "",
        target: int | None = None,
    ) -> Request:
        """Ask for something; the same that is waiting already is returned as it is."""
        waiting = _waiting().where(
            requests.c.job == job,
            requests.c.month.is_not_distinct_from(month),
            requests.c.target.is_not_distinct_from(target),
        )
        asked = sa.insert(requests).values(
            job=job,
            month=month,
            author=author,
            asked_at=now,
            reason=_storable(reason, LONGEST_TEXT),
            target=target,
        )

        def work(connection: Connection) -> Request:
            row = connection.execute(waiting.limit(1)).one_or_none()
            if row is None:
                row = connection.execute(asked.returning(requests)).one()
            return Request(**row_values(row))

        return self._database.write(work)

    def take(self, now: dt.datetime, holder: str, jobs: Sequence[str] = WORK) -> Request | None:
        """Take the oldest request for these jobs up; None if none waits. No two takers get the same."""
        oldest = _waiting().where(requests.c.job.in_(jobs))
        oldest = oldest.with_only_columns(requests.c.id).limit(1)
        # PostgreSQL's way for many takers; SQLite has one writer at a time and ignores it.
        oldest = oldest.with_for_update(skip_locked=True)
        taken = (
            sa.update(requests)
            .where(requests.c.id == oldest.scalar_subquery())
            .values(taken_at=now, holder=holder)
            .returning(requests)
        )
        row = self._database.write(lambda c: c.execute(taken).one_or_none())
        return None if row is None else Request(**row_values(row))

    def put_back(self, request: Request) -> None:
        """Let a request wait again, in its place: whoever took it up could not carry it out yet."""
        self._let_wait(requests.c.id == request.id)

    def put_back_others(self, holder: str) -> None:
        """Let runs wait again that another than this holder took up and never closed: it is gone."""
        self._let_wait(
            requests.c.job.in_(WORK),
            requests.c.taken_at.is_not(None),
            requests.c.finished_at.is_(None),
            requests.c.holder != holder,
        )

    def _let_wait(self, *which: sa.ColumnElement[bool]) -> None:
        waits = sa.update(requests).where(*which).values(taken_at=None, holder=None)
        self._database.write(lambda c: c.execute(waits))

    def done(
        self, request: Request, now: dt.datetime, run_id: int | None = None, note: str = ""
    ) -> None:
        """Close a request, with the run that served it."""
        closed = sa.update(requests).where(requests.c.id == request.id)
        closed = closed.values(
            taken_at=sa.func.coalesce(requests.c.taken_at, now),
            finished_at=now,
            run_id=run_id,
            note=note,
        )
        self._database.write(lambda c: c.execute(closed))

    def waiting(self) -> list[Request]:
        """Requests nobody has taken up, the oldest first."""
        return self._read(_waiting())

    def latest(self, limit: int) -> list[Request]:
        """Requests, the newest first."""
        return self._read(sa.select(requests).order_by(requests.c.id.desc()).limit(limit))

    def paused(self) -> Request | None:
        """The pause that holds, or None."""
        query = sa.select(requests).where(requests.c.job.in_(PAUSES))
        newest = self._read(query.order_by(requests.c.id.desc()).limit(1))
        return newest[0] if newest and newest[0].job == PAUSE else None

    def cancelling(self, run_ids: Sequence[int]) -> list[Request]:
        """Requests to end one of these runs that are still open."""
        query = sa.select(requests).where(
            requests.c.job == CANCEL,
            requests.c.finished_at.is_(None),
            requests.c.target.in_(run_ids),
        )
        return self._read(query.order_by(requests.c.id))

    def _read(self, query: sa.Select[Any]) -> list[Request]:
        rows = self._database.read(lambda c: c.execute(query).all())
        return [Request(**row_values(row)) for row in rows]


def _waiting() -> sa.Select[Any]:
    return sa.select(requests).where(requests.c.taken_at.is_(None)).order_by(requests.c.id)


def _storable(text: str, longest: int) -> str:
    """Text that both databases take: no NUL, no half of a character, not too long."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return clean.encode("utf-8", "replace").decode()[:longest]
