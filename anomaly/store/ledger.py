"""The ledger: every run of every job, what it went through and how it ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import BusyError, UsageError
from anomaly.ports import PUBLISHED
from anomaly.store.database import row_values
from anomaly.store.endings import ended_last
from anomaly.store.entities import Run, Stage, Token, Totals
from anomaly.store.lease import check_token
from anomaly.store.states import seal
from anomaly.store.tables import (
    flags,
    run_stages,
    runs,
    runs_current,
    user_months,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from anomaly.store.database import Database

EMPTY: Mapping[str, Any] = {
    "holder": "",
    "rows_read": 0,
    "rows_rejected": {},
    "users_scored": 0,
    "users_skipped": {},
    "flags": 0,
    "flag_kinds": {},
    "configuration": "",
    "code_version": "",
}


INTERRUPTED: Mapping[str, Any] = {"state": "failed", "outcome": "failed", "note": "interrupted"}


class Ledger:
    """Runs, in the order in which they were entered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- a run's life

    def start(
        self,
        job: str,
        month: str | None = None,
        *,
        configuration: str,
        code_version: str,
        now: dt.datetime,
        holder: str = "",
        planned_for: dt.datetime | None = None,
    ) -> Run:
        """Enter a run as running. planned_for: the plan it carries out, if that is still open."""
        begun = {
            "job": job,
            "month": month,
            "state": "running",
            "configuration": configuration,
            "code_version": code_version,
            "started_at": now,
            "heartbeat_at": now,
            "progress_at": now,
            "holder": holder,
        }

        def work(connection: Connection) -> Run:
            if planned_for is not None:
                planned = _planned(job, planned_for).where(runs.c.state == "planned")
                row = connection.execute(planned.values(begun).returning(runs)).one_or_none()
                if row is not None:
                    return _run(row)
            return _enter(connection, begun)

        return self._database.write(work)

    def resume(
        self,
        job: str,
        month: str | None,
        *,
        configuration: str,
        code_version: str,
        now: dt.datetime,
        holder: str,
    ) -> Run | None:
        """Take over the newest unfinished run of the same job, month, settings and code.

        Call it under the job's lease: whatever is still running then has lost its process. Other
        unfinished runs of the job and month are closed as failed.
        Returns: the run, whose finished shards stand; None if there is none.
        """
        unfinished = sa.select(runs).where(
            runs.c.job == job, runs.c.month.is_not_distinct_from(month), runs.c.state == "running"
        )

        def work(connection: Connection) -> Run | None:
            taken: Run | None = None
            for row in connection.execute(unfinished.order_by(runs.c.id.desc())).all():
                same = (row.configuration, row.code_version) == (configuration, code_version)
                if taken is None and same:
                    values = {
                        "holder": holder,
                        "heartbeat_at": now,
                        "progress_at": now,
                        "note": None,
                    }
                    taken = _update(connection, row.id, values)
                else:
                    _update(connection, row.id, {**INTERRUPTED, "finished_at": now})
            return taken

        return self._database.write(work)

    def close_interrupted(self, job: str, now: dt.datetime, month: str | None = None) -> None:
        """Close as failed whatever of a job, or of one month, has lost its process. Call it under the
        job's lease.
        """
        unfinished = sa.update(runs).where(runs.c.job == job, runs.c.state == "running")
        if month is not None:
            unfinished = unfinished.where(runs.c.month == month)
        closed = unfinished.values(**INTERRUPTED, finished_at=now)
        self._database.write(lambda c: c.execute(closed))

    def heartbeat(self, run: Run, now: dt.datetime, progress: dt.datetime | None = None) -> None:
        """Say that a run's process lives; one that has ended, or is another's now, is left alone.

        progress: when its work last got on; None: nothing is said of that.
        """
        alive = sa.update(runs).where(
            runs.c.id == run.id, runs.c.state == "running", runs.c.holder == run.holder
        )
        values = {"heartbeat_at": now} | ({} if progress is None else {"progress_at": progress})
        self._database.write(lambda c: c.execute(alive.values(values)))

    def begin_stage(self, run: Run, stage: str, now: dt.datetime) -> None:
        """Enter a stage when it begins, so that one that never ends is seen; again: it goes on."""
        entered = self._database.insert(run_stages).values(
            run_id=run.id, stage=stage, seconds=0.0, rows=0, users=0, memory=0, started_at=now
        )
        entered = entered.on_conflict_do_update(
            index_elements=[run_stages.c.run_id, run_stages.c.stage], set_={"finished_at": None}
        )
        self._database.write(lambda c: c.execute(entered))

    def stage(
        self,
        run: Run,
        stage: str,
        seconds: float,
        *,
        rows: int = 0,
        users: int = 0,
        memory: int = 0,
        skipped: Mapping[str, int] | None = None,
        now: dt.datetime | None = None,
    ) -> None:
        """Add to a stage's figures. memory: the most bytes held; the highest counts. now: it ends."""
        key = (run_stages.c.run_id == run.id) & (run_stages.c.stage == stage)
        fresh = sa.insert(run_stages).values(
            run_id=run.id,
            stage=stage,
            seconds=seconds,
            rows=rows,
            users=users,
            memory=memory,
            skipped=skipped,
            finished_at=now,
        )

        def work(connection: Connection) -> None:
            known = connection.execute(
                sa.select(run_stages).where(key).with_for_update()
            ).one_or_none()
            if known is None:
                connection.execute(fresh)
                return
            added = sa.update(run_stages).where(key)
            connection.execute(
                added.values(
                    seconds=known.seconds + seconds,
                    rows=known.rows + rows,
                    users=known.users + users,
                    memory=max(known.memory, memory),
                    skipped=Counter(known.skipped) + Counter(skipped or {}),
                    finished_at=now,
                )
            )

        self._database.write(work)

    def interrupt(self, run: Run, now: dt.datetime, note: str, *, resumable: bool) -> None:
        """Write that a run's process was stopped; a run that has ended stays as it ended.

        resumable: it stays open under nobody's name, and the next attempt goes on with it.
        """
        values: dict[str, Any] = {"heartbeat_at": now, "note": note, "holder": ""}
        if not resumable:
            values |= {"state": "failed", "outcome": "failed", "finished_at": now}
        stopped = sa.update(runs).where(runs.c.id == run.id, runs.c.state == "running")
        stopped = stopped.where(runs.c.holder == run.holder)
        self._database.write(lambda c: c.execute(stopped.values(values)))

    def finish(
        self,
        run: Run,
        state: str,
        now: dt.datetime,
        *,
        rows_read: int = 0,
        rows_rejected: Mapping[str, int] | None = None,
        users_scored: int | None = None,
        users_skipped: Mapping[str, int] | None = None,
        model_version: str | None = None,
        watermark: dt.datetime | None = None,
        source: str | None = None,
        note: str | None = None,
        token: Token | None = None,
    ) -> Run:
        """End a run; what it published becomes visible if it ends complete or provisional.

        Earlier results of the same job and month are superseded then, and a complete month's
        states sealed, all in one transaction. Users and flags are counted from what was published
        unless given.
        A run that has ended does not fail after it: what became visible stays so.
        Raises: BusyError if the token's lease, or the run itself, was taken over by another.
        """
        given = {
            "state": state,
            "outcome": state,
            "finished_at": now,
            "heartbeat_at": now,
            "rows_read": rows_read,
            "rows_rejected": dict(rows_rejected or {}),
            "model_version": model_version,
            "watermark": watermark,
            "source": source,
            "note": note,
            "seconds": (now - run.started_at).total_seconds() if run.started_at else None,
        }
        if users_scored is not None:
            given["users_scored"] = users_scored
        if users_skipped is not None:
            given["users_skipped"] = dict(users_skipped)

        def work(connection: Connection) -> Run:
            check_token(connection, token)
            found = _held(connection, run)
            if state == "failed" and found.state != "running":
                return found
            if state in PUBLISHED and run.month is not None:
                _supersede(connection, run)
            if state == "complete" and run.month is not None and model_version is not None:
                seal(self._database, connection, model_version, run.month, now)
            return _update(connection, run.id, _published(connection, run.id) | given)

        return self._database.write(work)

    # --- plans

    def plan(self, job: str, scheduled_for: dt.datetime, month: str | None = None) -> Run:
        """Enter a run that is to come; one that is entered already is returned as it is."""
        return self._plan(job, scheduled_for, {"month": month, "state": "planned"})

    def missed(self, job: str, scheduled_for: dt.datetime, now: dt.datetime, note: str = "") -> Run:
        """Enter that a run did not begin when it should have; one that did begin is left alone."""
        values = {"state": "missed", "outcome": "missed", "finished_at": now, "note": note}
        return self._plan(job, scheduled_for, values)

    def withdraw(self, job: str, now: dt.datetime, keep: dt.datetime) -> None:
        """Take back plans that have not come due and that a changed schedule no longer makes."""
        plans = sa.delete(runs).where(
            runs.c.job == job,
            runs.c.state == "planned",
            runs.c.planned_for > now,
            runs.c.planned_for != keep,
        )
        self._database.write(lambda c: c.execute(plans))

    def last_planned(self, job: str) -> dt.datetime | None:
        """The latest time for which a run of the job was planned, carried out or missed."""
        query = (
            sa.select(runs.c.planned_for)
            .where(runs.c.job == job, runs.c.planned_for.is_not(None))
            .order_by(runs.c.planned_for.desc())
            .limit(1)
        )
        return self._database.read(lambda c: c.execute(query).scalar_one_or_none())

    # --- what it says

    def current(self, month: str | None, job: str = "month") -> Run | None:
        """The run whose results analysts see, else the newest one that has none."""
        query = sa.select(runs_current).where(
            runs_current.c.job == job, runs_current.c.month.is_not_distinct_from(month)
        )
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        return None if row is None else _run(row)

    def get(self, run_id: int) -> Run:
        """A run by its number.

        Raises: UsageError if there is none.
        """
        query = sa.select(runs).where(runs.c.id == run_id)
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        if row is None:
            raise UsageError(f"run {run_id} is not in the ledger.")
        return _run(row)

    def runs(
        self,
        job: str | None = None,
        month: str | None = None,
        states: Sequence[str] | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> list[Run]:
        """Runs, the newest first, only those before a number; None does not filter."""
        query = sa.select(runs).order_by(runs.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(runs.c.id < before)
        if job is not None:
            query = query.where(runs.c.job == job)
        if month is not None:
            query = query.where(runs.c.month == month)
        if states is not None:
            query = query.where(runs.c.state.in_(states))
        return self._read(query)

    def stages(self, run_id: int | None = None) -> list[Stage]:
        """The stages of a run, or of all, in the order of runs and names."""
        query = (
            sa.select(run_stages, runs.c.job)
            .join(runs, runs.c.id == run_stages.c.run_id)
            .order_by(run_stages.c.run_id, run_stages.c.stage)
        )
        if run_id is not None:
            query = query.where(run_stages.c.run_id == run_id)
        rows = self._database.read(lambda c: c.execute(query).all())
        return [Stage(**row_values(row)) for row in rows]

    def last_successes(self) -> list[Run]:
        """The run of each job that last ended complete or provisional, superseded since or not, by job."""
        succeeded = sa.select(runs).where(runs.c.outcome.in_(PUBLISHED))
        return sorted(self._read(ended_last(succeeded, runs.c.job)), key=lambda run: run.job)

    def month_states(self, limit: int | None = 13) -> list[Run]:
        """The current run of the latest months, the latest month first; None: of all."""
        query = (
            sa.select(runs_current)
            .where(runs_current.c.job == "month", runs_current.c.month.is_not(None))
            .order_by(runs_current.c.month.desc())
            .limit(limit)
        )
        return self._read(query)

    def watermark(self, source: str) -> dt.datetime | None:
        """How far the last complete run of a source has read, aware UTC."""
        query = (
            sa.select(runs.c.watermark)
            .where(
                runs.c.source == source,
                runs.c.outcome == "complete",
                runs.c.watermark.is_not(None),
            )
            .order_by(runs.c.id.desc())
            .limit(1)
        )
        return self._database.read(lambda c: c.execute(query).scalar_one_or_none())

    def totals(self) -> Totals:
        """What all runs that ended add up to."""
        alike = (
            runs.c.job,
            runs.c.outcome,
            runs.c.source,
            runs.c.rows_rejected,
            runs.c.users_skipped,
            runs.c.flag_kinds,
        )
        query = (
            sa.select(
                *alike,
                sa.func.count().label("times"),
                sa.func.sum(runs.c.rows_read).label("rows_read"),
                sa.func.sum(runs.c.users_scored).label("users_scored"),
            )
            .where(runs.c.outcome.is_not(None))
            .group_by(*alike)
        )
        ended = self._database.read(lambda c: c.execute(query).all())
        by_outcome: Counter[tuple[str, str]] = Counter()
        read: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        found: Counter[tuple[str, str]] = Counter()
        for run in ended:
            by_outcome[run.job, run.outcome] += run.times
            if run.source is not None:
                read[run.source] += int(run.rows_read)
            for reason, count in run.rows_rejected.items():
                rejected[reason] += run.times * count
            for reason, count in run.users_skipped.items():
                skipped[reason] += run.times * count
            for name, count in run.flag_kinds.items():
                severity, kind = name.split("/")
                found[severity, kind] += run.times * count
        return Totals(
            runs=dict(by_outcome),
            rows_read=dict(read),
            rows_rejected=dict(rejected),
            users_scored=sum(int(run.users_scored) for run in ended),
            users_skipped=dict(skipped),
            flags=dict(found),
            missed={job: count for (job, end), count in by_outcome.items() if end == "missed"},
        )

    def flags_per_thousand_user_months(self) -> float | None:
        """Of the latest complete month; None if there is none or it scored nobody."""
        query = (
            sa.select(runs_current)
            .where(runs_current.c.job == "month", runs_current.c.state == "complete")
            .order_by(runs_current.c.month.desc())
            .limit(1)
        )
        for run in self._read(query):
            return 1_000 * run.flags / run.users_scored if run.users_scored else None
        return None

    def _read(self, query: sa.Select[Any]) -> list[Run]:
        return [_run(row) for row in self._database.read(lambda c: c.execute(query).all())]

    def _plan(self, job: str, scheduled_for: dt.datetime, values: Mapping[str, Any]) -> Run:
        known = sa.select(runs).where(runs.c.job == job, runs.c.planned_for == scheduled_for)

        def work(connection: Connection) -> Run:
            row = connection.execute(known).one_or_none()
            if row is None:
                return _enter(connection, {"job": job, "planned_for": scheduled_for, **values})
            if row.state == "planned" and values["state"] == "missed":
                return _update(connection, row.id, values)
            return _run(row)

        return self._database.write(work)


def _planned(job: str, scheduled_for: dt.datetime) -> sa.Update:
    return sa.update(runs).where(runs.c.job == job, runs.c.planned_for == scheduled_for)


def _enter(connection: Connection, values: Mapping[str, Any]) -> Run:
    entered = sa.insert(runs).values({**EMPTY, **values}).returning(runs)
    return _run(connection.execute(entered).one())


def _update(connection: Connection, run_id: int, values: Mapping[str, Any]) -> Run:
    changed = sa.update(runs).where(runs.c.id == run_id).values(values).returning(runs)
    return _run(connection.execute(changed).one())


def _held(connection: Connection, run: Run) -> Run:
    """The run as it stands.

    Raises: BusyError where another goes on with it: a process given up for dead must not end it.
    """
    found = _run(connection.execute(sa.select(runs).where(runs.c.id == run.id)).one())
    if found.holder != run.holder:
        raise BusyError(
            f"run {run.id}: {found.holder} has taken it over from {run.holder}, so it is not ended here."
        )
    return found


def _supersede(connection: Connection, run: Run) -> None:
    """Mark what the run replaces; its rows are kept."""
    earlier = sa.select(runs.c.id).where(
        runs.c.job == run.job,
        runs.c.month == run.month,
        runs.c.id != run.id,
        runs.c.state.in_(PUBLISHED),
    )
    ids = connection.execute(earlier).scalars().all()
    if ids:
        marked = sa.update(flags).where(flags.c.run_id.in_(ids)).values(superseded_by=run.id)
        connection.execute(marked)
        superseded = sa.update(runs).where(runs.c.id.in_(ids)).values(state="superseded")
        connection.execute(superseded)


def _published(connection: Connection, run_id: int) -> dict[str, Any]:
    """Counts of what a run has published."""
    kinds = connection.execute(
        sa.select(flags.c.severity, flags.c.kind, sa.func.count())
        .where(flags.c.run_id == run_id)
        .group_by(flags.c.severity, flags.c.kind)
    ).all()
    people = connection.execute(
        sa.select(user_months.c.skipped, sa.func.count())
        .where(user_months.c.run_id == run_id)
        .group_by(user_months.c.skipped)
    ).all()
    return {
        "flags": sum(count for _, _, count in kinds),
        "flag_kinds": {f"{severity}/{kind}": count for severity, kind, count in kinds},
        "users_scored": sum(count for reason, count in people if reason is None),
        "users_skipped": {reason: count for reason, count in people if reason is not None},
    }


def _run(row: sa.Row[Any]) -> Run:
    return Run(**row_values(row))
