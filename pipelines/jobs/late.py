"""Notices rows of months that are closed, before they are written."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from anomaly.months import Month, month_of, months_between
from anomaly.rows import SCHEMA
from pipelines.jobs.books import MONTH_JOB

if TYPE_CHECKING:
    from pipelines.services import Services

KEYS = ["user_id", "metric", "observed_at"]
INSTANT = SCHEMA.field("observed_at").type


@dataclass(frozen=True, slots=True)
class Closed:
    """What is closed. until: the end of the latest complete month; since: when the newest run of a
    complete month began. Both aware UTC.
    """

    until: dt.datetime
    since: dt.datetime


def closed(services: Services) -> Closed | None:
    """What is closed; None if no month is complete."""
    runs = services.store.ledger.runs(job=MONTH_JOB, states=("complete",))
    months = [Month.parse(run.month) for run in runs if run.month is not None]
    began = [run.started_at for run in runs if run.started_at is not None]
    return Closed(max(months).end(services.timezone), max(began)) if months and began else None


def note_rows(services: Services, table: pa.Table, known: Closed | None) -> frozenset[str]:
    """Note whose rows of this table come late: of a closed month, and not known word for word.

    Noted before they are written: if that fails, users are looked at who have not changed, which
    changes nothing.
    Returns: the users.
    """
    if known is None:
        return frozenset()
    old = table.filter(pc.less(table["observed_at"], _instant(known.until)))
    return note(services, unknown(services, old, known.until)) if len(old) else frozenset()


def note_people(
    services: Services, people: pa.Table, arrived: dt.datetime, known: Closed | None
) -> frozenset[str]:
    """Note whose rows come late with a file that is read in place.

    Args: people: user_id and first (microseconds UTC) of everyone in it. arrived: when the file came
        or was last changed; one that was there before is only looked over anew.
    """
    if known is None or arrived <= known.since:
        return frozenset()
    firsts = people["first"].cast(INSTANT)
    rows = pa.table({"user_id": people["user_id"], "observed_at": firsts})
    return note(services, rows.filter(pc.less(firsts, _instant(known.until))))


def unknown(services: Services, rows: pa.Table, until: dt.datetime) -> pa.Table:
    """Those of the rows that the database does not hold, or holds with another value."""
    since = pc.min(rows["observed_at"]).as_py()
    known = list(services.store.observations.read(since, until, sorted(_users(rows))))
    if not known:
        return rows
    held = pa.concat_tables(known).select([*KEYS, "value"]).rename_columns([*KEYS, "held"])
    names = {"user_id": pa.string(), "metric": pa.string(), "observed_at": INSTANT}
    left = rows.select([*KEYS, "value"])
    for name, kind in names.items():
        left = left.set_column(left.column_names.index(name), name, left[name].cast(kind))
        held = held.set_column(held.column_names.index(name), name, held[name].cast(kind))
    both = left.join(held, keys=KEYS, join_type="left outer")
    other = pc.fill_null(pc.not_equal(both["held"], both["value"]), fill_value=True)
    return both.filter(other)


def note(services: Services, rows: pa.Table) -> frozenset[str]:
    """Write down whose rows these are, month by month."""
    if not len(rows):
        return frozenset()
    edges = [pick(rows["observed_at"]).as_py() for pick in (pc.min, pc.max)]
    first, last = (month_of(edge, services.timezone) for edge in edges)
    now = services.clock()
    for month in months_between(first, last):
        start = pc.greater_equal(rows["observed_at"], _instant(month.start(services.timezone)))
        end = pc.less(rows["observed_at"], _instant(month.end(services.timezone)))
        services.store.late.note(str(month), _users(rows.filter(pc.and_(start, end))), now)
    return _users(rows)


def _instant(when: dt.datetime) -> pa.Scalar:
    return pa.scalar(when, INSTANT)


def _users(rows: pa.Table) -> frozenset[str]:
    return frozenset(pc.unique(rows["user_id"]).to_pylist())
