"""A store on each kind of database, and results to put into it."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from anomaly.records import Flag, UserMonth
from anomaly.rows import SCHEMA
from anomaly.store import Run, Store
from tests.fixtures.databases import store_on

NOW = dt.datetime(2026, 4, 5, 3, 0, tzinfo=dt.UTC)
MARCH = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)

FLAG = Flag(
    flag_id="f1",
    user_id="ann",
    start=MARCH + dt.timedelta(days=11, hours=1),
    end=MARCH + dt.timedelta(days=11, hours=5),
    severity="high",
    score=2.5,
    p_value=1e-7,
    kind="burst",
    direction="up",
    metrics="files_read;logins",
    observed=1612.0,
    expected=4.1,
    lower=0.0,
    upper=12.3,
    explanation="Read 1,612 files in 4 hours where 0 to 12 were expected.",
    self_percentile=100.0,
    peer_percentile=99.5,
    all_percentile=99.9,
    peer_count=9,
)
USER_MONTH = UserMonth(
    user_id="ann",
    cohort="all",
    score=2.5,
    p_value=1e-7,
    flags=1,
    worst_at=MARCH + dt.timedelta(days=11, hours=2),
    metrics="files_read",
    self_percentile=100.0,
    peer_percentile=99.5,
    all_percentile=99.9,
    peer_count=9,
    confidence=0.9,
)


def opened(url: str) -> Store:
    """A store on an upgraded database, impatient."""
    return store_on(url, retries=1)


def observed(*rows: tuple[str, str, dt.datetime, float]) -> pa.Table:
    """Observations: user_id, metric, observed_at, value."""
    return pa.Table.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA
    )


def started(store: Store, month: str | None = "2026-03", job: str = "month") -> Run:
    """A run that has begun."""
    return store.ledger.start(job, month, configuration="c1", code_version="1", now=NOW)


def scored(store: Store, flags: list[Flag], month: str = "2026-03", state: str = "complete") -> Run:
    """A run of one shard that has ended."""
    run = started(store, month)
    people = [replace(USER_MONTH, user_id=name) for name in {flag.user_id for flag in flags}]
    store.publish(run, 0, month, flags, people, {}, None, now=NOW)
    return store.ledger.finish(run, state, NOW + dt.timedelta(minutes=1), model_version="m1")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """An empty store; the test runs on both kinds of database."""
    store = opened(database_url)
    yield store
    store.close()
