"""Publishing, and what analysts read of it."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
import sqlalchemy as sa

from anomaly.exceptions import BusyError, DataError, UsageError
from anomaly.feedback import Label, Terms
from anomaly.records import FLAG_COLUMNS, Band
from anomaly.store import EXPORT_COLUMNS, FlagFilter
from tests.contracts.conftest import FLAG, MARCH, NOW, USER_MONTH, opened, scored, started

TTL = dt.timedelta(seconds=30)
FLAGS = [
    FLAG,
    replace(FLAG, flag_id="f3", user_id="Zoë", score=1.5, severity="low", metrics="logins"),
    replace(FLAG, flag_id="f2", user_id="o'brien\n", score=1.5, kind="drift", metrics="100%_x"),
]


def ids(rows):
    return [row.flag.flag_id for row in rows]


def table(store, name):
    with store._database.engine.connect() as connection:
        return connection.execute(sa.text(f"SELECT * FROM {name} ORDER BY 1, 2")).all()


def test_flags_come_back_as_they_went_by_score_then_id(store):
    run = scored(store, FLAGS)
    rows = store.flags.select()
    assert [row.flag for row in rows] == [FLAGS[0], FLAGS[2], FLAGS[1]]
    assert {(row.month, row.run_id, row.run_state, row.model_version) for row in rows} == {
        ("2026-03", run.id, "complete", "m1")
    }


def test_a_flag_is_named_by_its_first_six_digits_or_more(store):
    ids = [f"{one:0<16}" for one in ("3f2a9c01", "3f2a9c0a", "77b01e")]
    run = started(store)
    shown = [replace(FLAG, flag_id=one) for one in ids]
    store.publish(run, 0, "2026-03", shown, [USER_MONTH], {}, None, now=NOW)
    store.ledger.finish(run, "complete", NOW)
    named = store.flags.named
    assert [named(one) for one in ids] == ids
    assert [named("77b01e"), named("3f2a9c01")] == [ids[2], ids[0]]
    assert [named("77b01"), named("123456"), named("77b01_")] == ["77b01", "123456", "77b01_"]
    with pytest.raises(UsageError, match=f"flag '3f2a9c0': 2 begin so: {ids[0]}, {ids[1]}. Give"):
        named("3f2a9c0")


def test_nothing_is_seen_before_the_run_ends(store):
    run = started(store)
    store.publish(run, 0, "2026-03", FLAGS, [USER_MONTH], {}, None, now=NOW)
    assert store.flags.select() == []
    assert store.flags.user_months("2026-03") == []
    store.ledger.finish(run, "provisional", NOW)
    assert len(store.flags.select()) == len(FLAGS)


def test_a_failed_run_is_never_seen(store):
    run = started(store)
    store.publish(run, 0, "2026-03", FLAGS, [USER_MONTH], {}, None, now=NOW)
    store.ledger.finish(run, "failed", NOW, note="out of memory")
    assert store.flags.select() == []
    assert store.ledger.current("2026-03").note == "out of memory"


def test_a_second_publish_of_a_shard_leaves_the_same_rows(store):
    run = started(store)
    for _ in range(2):
        store.publish(
            run, 0, "2026-03", FLAGS, [USER_MONTH], {"ann": b"s"}, None, model_version="m1", now=NOW
        )
        once = [table(store, name) for name in ("flags", "user_months", "shards", "states")]
        assert [len(rows) for rows in once] == [3, 1, 1, 1]
    assert store.shards.finished(run.id) == {0}


def test_publishing_again_replaces_only_its_own_shard(store):
    run = started(store)
    other = replace(USER_MONTH, user_id="bob")
    store.publish(run, 0, "2026-03", FLAGS, [USER_MONTH], {}, None, now=NOW)
    store.publish(run, 1, "2026-03", [], [other], {}, None, now=NOW)
    store.publish(run, 0, "2026-03", [FLAG], [USER_MONTH], {}, None, now=NOW)
    store.ledger.finish(run, "complete", NOW)
    assert ids(store.flags.select()) == ["f1"]
    assert len(store.flags.user_months("2026-03")) == 2
    assert store.shards.finished(run.id) == {0, 1}


def test_a_shard_is_written_whole_or_not_at_all(store):
    run = started(store)
    broken = [USER_MONTH, USER_MONTH]  # one user twice breaks the key, after the flags are in
    with pytest.raises(DataError, match=r"breaks one of its constraints"):
        store.publish(
            run, 0, "2026-03", FLAGS, broken, {"ann": b"s"}, None, model_version="m", now=NOW
        )
    assert [table(store, name) for name in ("flags", "user_months", "shards", "states")] == [[]] * 4


@pytest.mark.parametrize("value", [np.nan, np.inf, np.float32("nan")])
def test_numbers_that_are_none_are_refused(store, value):
    run = started(store)
    with pytest.raises(DataError, match=r"flag f1: expected is (nan|inf)"):
        store.publish(run, 0, "2026-03", [replace(FLAG, expected=value)], [], {}, None, now=NOW)
    month = replace(USER_MONTH, confidence=value)
    with pytest.raises(DataError, match=r"user 'ann': confidence is"):
        store.publish(run, 0, "2026-03", [], [month], {}, None, now=NOW)
    assert table(store, "flags") == []


def test_numbers_of_numpy_become_plain(store):
    numbers: dict[str, Any] = {"score": np.float32(2.5), "peer_count": np.int64(3)}
    flag = replace(FLAG, **numbers, lower=np.float64(-0.0))
    month = replace(USER_MONTH, **numbers)
    run = started(store)
    store.publish(run, 0, "2026-03", [flag], [month], {}, None, now=NOW)
    store.ledger.finish(run, "complete", NOW)
    (row,) = store.flags.select()
    assert (row.flag.score, row.flag.peer_count, str(row.flag.lower)) == (2.5, 3, "0.0")
    assert store.flags.user_months("2026-03")[0].user_month.peer_count == 3


def test_a_stale_token_writes_nothing(store):
    old = store.lease.acquire("jobs", "one", TTL, NOW)
    run = started(store)
    new = store.lease.acquire("jobs", "two", TTL, NOW + 2 * TTL)
    with pytest.raises(BusyError, match=r"another process has taken over"):
        store.publish(run, 0, "2026-03", FLAGS, [], {}, old, now=NOW)
    with pytest.raises(BusyError, match=r"another process has taken over"):
        store.ledger.finish(run, "complete", NOW, token=old)
    assert table(store, "flags") == []
    assert store.ledger.get(run.id).state == "running"
    store.publish(run, 0, "2026-03", FLAGS, [], {}, new, now=NOW)
    assert store.ledger.finish(run, "complete", NOW, token=new).flags == 3


def test_a_later_run_supersedes_and_keeps_what_was(store):
    first = scored(store, FLAGS)
    second = scored(store, [FLAG])
    assert ids(store.flags.select()) == ["f1"]
    assert store.ledger.get(first.id).state == "superseded"
    assert store.ledger.get(first.id).outcome == "complete"
    with store._database.engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT run_id, superseded_by FROM flags")).all()
    assert sorted(kept, key=str) == sorted(
        [(first.id, second.id)] * 3 + [(second.id, None)], key=str
    )


def test_a_failed_second_run_leaves_the_first_in_sight(store):
    first = scored(store, FLAGS)
    store.ledger.finish(started(store), "failed", NOW)
    assert len(store.flags.select()) == 3
    assert store.ledger.current("2026-03").id == first.id


def test_months_stand_beside_each_other(store):
    scored(store, FLAGS)
    scored(store, [replace(FLAG, flag_id="a1")], month="2026-02")
    assert ids(store.flags.select(FlagFilter(month="2026-02"))) == ["a1"]
    assert len(store.flags.select()) == 4


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (FlagFilter(user="Zoë"), ["f3"]),
        (FlagFilter(user="o'brien\n"), ["f2"]),
        (FlagFilter(metric="logins"), ["f1", "f3"]),
        (FlagFilter(metric="LOGINS"), []),
        (FlagFilter(metric="login_"), []),
        (FlagFilter(metric="100%_x"), ["f2"]),
        (FlagFilter(severity="high"), ["f1", "f2"]),
        (FlagFilter(status="open", limit=2), ["f1", "f2"]),
        (FlagFilter(limit=2, offset=2), ["f3"]),
        (FlagFilter(month="2026-03", severity="low", metric="logins"), ["f3"]),
        (FlagFilter(user="'; DROP TABLE flags; --"), []),
    ],
)
def test_filters(store, filters, expected):
    scored(store, FLAGS)
    assert ids(store.flags.select(filters)) == expected
    assert store.flags.arrow(filters)["flag_id"].to_pylist() == expected


def test_users_are_ranked_and_the_skipped_come_last(store):
    run = started(store)
    people = [
        replace(USER_MONTH, user_id="b", score=0.2, worst_at=None),
        replace(USER_MONTH, user_id="c", score=3.0),
        replace(USER_MONTH, user_id="B", score=0.2),
        replace(USER_MONTH, user_id="a", score=0.0, skipped="too_short"),
    ]
    store.publish(run, 0, "2026-03", [], people, {}, None, now=NOW)
    ended = store.ledger.finish(run, "complete", NOW)
    rows = store.flags.user_months("2026-03")
    assert [(row.rank, row.user_month.user_id) for row in rows] == [
        (1, "c"),
        (2, "B"),
        (3, "b"),
        (None, "a"),
    ]
    assert rows[2].user_month == people[0]
    assert [row.rank for row in store.flags.user_months("2026-03", "b")] == [3]
    assert [row.rank for row in store.flags.user_months("2026-03", limit=2, offset=1)] == [2, 3]
    assert (ended.users_scored, ended.users_skipped) == (3, {"too_short": 1})


def test_a_flag_keeps_the_series_its_plot_shows(store):
    times = np.arange(5, dtype=np.int64) * 3600 + int(MARCH.timestamp())
    line = np.array([1, np.nan, 3, 4, 5], dtype=np.float32)
    band = Band(times, line, line * 2, line - 1, line + 1)
    run = started(store)
    store.publish(run, 0, "2026-03", FLAGS, [], {}, None, bands={"f1": band}, now=NOW)
    assert store.flags.series("f1") is None, "not before the run has ended"
    store.ledger.finish(run, "complete", NOW)
    kept = store.flags.series("f1")
    for name in ("times", "observed", "expected", "lower", "upper"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(band, name), strict=True)
    assert store.flags.series("f2") is None


def test_exports_begin_with_the_contract_and_are_typed_without_rows(store):
    empty = store.flags.arrow()
    assert tuple(empty.column_names) == EXPORT_COLUMNS
    assert EXPORT_COLUMNS[: len(FLAG_COLUMNS)] == FLAG_COLUMNS
    scored(store, FLAGS)
    assert store.flags.arrow().schema == empty.schema


def test_exports_are_equal_from_both_databases_byte_for_byte(sqlite_url, postgres_url, tmp_path):
    contents = []
    for url, runs in ((sqlite_url, 1), (postgres_url, 3)):
        store = opened(url)
        for _ in range(runs):  # how often a month was tried must not show
            scored(store, [replace(flag, score=1 / 3 + 1, expected=1e-17) for flag in FLAGS])
        store.feedback.label([Label("f2", "true", "ann")], Terms(1.5, TTL), NOW)
        file = tmp_path / f"{runs}.csv"
        pyarrow.csv.write_csv(store.flags.arrow(), file)
        contents.append(file.read_bytes())
        store.close()
    assert contents[0] == contents[1]
    assert contents[0].count(b"burst") == 2


def test_a_shard_with_an_error_is_not_finished_and_says_why(store):
    run = started(store)
    store.publish(run, 0, "2026-03", [FLAG], [USER_MONTH], {}, None, now=NOW)
    store.publish(run, 1, "2026-03", [], [], {}, None, now=NOW, error="1 of 1 users not scored")
    assert store.shards.finished(run.id) == {0}
    assert store.shards.set_aside(run.id) == {1: "1 of 1 users not scored"}
    store.publish(run, 1, "2026-03", [], [], {}, None, now=NOW)
    assert store.shards.finished(run.id) == {0, 1}
    assert store.shards.set_aside(run.id) == {}


def test_a_run_takes_over_shards_of_another_as_often_as_it_likes(store):
    earlier = started(store)
    store.publish(earlier, 0, "2026-03", [FLAG], [USER_MONTH], {}, None, now=NOW)
    store.publish(earlier, 1, "2026-03", [], [], {}, None, now=NOW, error="why")
    store.ledger.finish(earlier, "provisional", NOW, model_version="m1")
    later = started(store)
    for _ in range(2):
        store.shards.adopt(later, earlier.id, [0], None, NOW)
    assert store.shards.finished(later.id) == {0}
    assert [row.run_id for row in store.flags.select()] == [earlier.id]
    done = store.ledger.finish(later, "complete", NOW, model_version="m1")
    assert (done.flags, done.users_scored) == (1, 1)
    assert [(row.run_id, row.flag) for row in store.flags.select()] == [(later.id, FLAG)]
