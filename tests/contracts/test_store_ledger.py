import datetime as dt
from dataclasses import replace

import pytest

from anomaly.exceptions import BusyError, UsageError
from anomaly.store import Totals
from tests.contracts.conftest import FLAG, NOW, USER_MONTH, scored, started

MINUTE = dt.timedelta(minutes=1)
SAME = {"configuration": "c1", "code_version": "1"}


def test_a_run_from_start_to_end(store):
    run = started(store)
    assert (run.state, run.outcome, run.month, run.started_at) == ("running", None, "2026-03", NOW)
    store.ledger.heartbeat(run, NOW + MINUTE)
    assert store.ledger.get(run.id).heartbeat_at == NOW + MINUTE
    ended = store.ledger.finish(
        run,
        "complete",
        NOW + 2 * MINUTE,
        rows_read=100,
        rows_rejected={"not_finite": 2, "missing_time": 1},
        users_scored=7,
        users_skipped={"no_rows": 3},
        model_version="m1",
        watermark=NOW,
        source="db:table",
        note="fine",
    )
    assert ended == store.ledger.get(run.id) == store.ledger.current("2026-03")
    assert (ended.state, ended.seconds, ended.rejected, ended.skipped) == ("complete", 120.0, 3, 3)
    assert (ended.rows_read, ended.users_scored, ended.watermark, ended.note) == (
        100,
        7,
        NOW,
        "fine",
    )


def test_an_unknown_run_is_named(store):
    with pytest.raises(UsageError, match="run 77 is not in the ledger"):
        store.ledger.get(77)


def test_stages_add_up(store):
    run = started(store)
    store.ledger.stage(run, "read", 1.5, rows=10, users=2, memory=100)
    store.ledger.stage(run, "read", 2.0, rows=5, memory=50)
    store.ledger.stage(run, "scan", 0.5)
    read, scan = store.ledger.stages(run.id)
    assert (read.job, read.stage, read.seconds, read.rows, read.users, read.memory) == (
        "month",
        "read",
        3.5,
        15,
        2,
        100,
    )
    assert scan.stage == "scan"
    started(store)
    assert len(store.ledger.stages()) == 2


def test_an_interrupted_run_is_taken_over_with_its_shards(store):
    run = started(store)
    store.publish(run, 3, "2026-03", [FLAG], [USER_MONTH], {}, None, now=NOW)
    taken = store.ledger.resume("month", "2026-03", **SAME, now=NOW + MINUTE, holder="two")
    assert (taken.id, taken.holder, taken.started_at) == (run.id, "two", NOW)
    assert store.shards.finished(taken.id) == {3}


def test_the_one_given_up_for_dead_cannot_end_the_run(store):
    run = started(store)
    store.ledger.resume("month", "2026-03", **SAME, now=NOW, holder="two")
    with pytest.raises(BusyError, match="two has taken it over"):
        store.ledger.finish(run, "failed", NOW)
    assert store.ledger.get(run.id).state == "running"


def test_a_run_of_other_settings_or_code_is_not_taken_over(store):
    run = started(store)
    other = store.ledger.resume(
        "month", "2026-03", configuration="c2", code_version="1", now=NOW, holder="two"
    )
    assert other is None
    closed = store.ledger.get(run.id)
    assert (closed.state, closed.outcome, closed.note) == ("failed", "failed", "interrupted")


def test_only_the_same_job_and_month_is_taken_over(store):
    started(store, "2026-02")
    started(store, job="train")
    assert store.ledger.resume("month", "2026-03", **SAME, now=NOW, holder="two") is None
    assert len(store.ledger.runs(states=["running"])) == 2
    ingest = started(store, None, "ingest")
    assert store.ledger.resume("ingest", None, **SAME, now=NOW, holder="x").id == ingest.id


def test_current_is_what_stands_not_what_was_tried_last(store):
    assert store.ledger.current("2026-03") is None
    failed = store.ledger.finish(started(store), "failed", NOW)
    assert store.ledger.current("2026-03") == failed
    complete = scored(store, [])
    started(store)
    assert store.ledger.current("2026-03").id == complete.id
    again = scored(store, [])
    assert store.ledger.current("2026-03").id == again.id


def test_jobs_without_a_month_do_not_supersede(store):
    first = started(store, None, "ingest")
    store.ledger.finish(first, "complete", NOW)
    store.ledger.finish(started(store, None, "ingest"), "complete", NOW)
    assert store.ledger.get(first.id).state == "complete"
    assert store.ledger.current(None, "ingest").id == first.id + 1


def test_runs_newest_first_and_filtered(store):
    a, b, c = started(store), started(store, "2026-02"), started(store, job="train")
    assert [run.id for run in store.ledger.runs()] == [c.id, b.id, a.id]
    assert [run.id for run in store.ledger.runs(job="month", limit=1)] == [b.id]
    assert [run.id for run in store.ledger.runs(month="2026-03")] == [c.id, a.id]
    assert store.ledger.runs(states=["failed"]) == []


def test_plans_are_entered_once_carried_out_or_missed(store):
    late, later = NOW + MINUTE, NOW + 2 * MINUTE
    assert store.ledger.last_planned("month") is None
    plan = store.ledger.plan("month", NOW, month="2026-03")
    assert store.ledger.plan("month", NOW).id == plan.id
    assert (plan.state, plan.planned_for) == ("planned", NOW)
    run = store.ledger.start("month", "2026-03", **SAME, now=late, planned_for=NOW)
    assert (run.id, run.state, run.planned_for) == (plan.id, "running", NOW)
    assert store.ledger.missed("month", NOW, late).state == "running", "it did begin"
    missed = store.ledger.missed("month", later, later, "was down")
    assert (missed.state, missed.outcome, missed.note) == ("missed", "missed", "was down")
    assert store.ledger.missed("month", later, later).id == missed.id
    made_up = store.ledger.start("month", "2026-03", **SAME, now=later, planned_for=later)
    assert made_up.id != missed.id, "a missed plan stays in the ledger"
    assert store.ledger.last_planned("month") == later
    assert store.ledger.totals().missed == {"month": 1}


def test_the_watermark_is_that_of_the_last_complete_run(store):
    assert store.ledger.watermark("db") is None
    for state, mark in (("complete", NOW), ("failed", NOW + MINUTE)):
        run = started(store, None, "ingest")
        store.ledger.finish(run, state, NOW, source="db", watermark=mark)
    assert store.ledger.watermark("db") == NOW
    assert store.ledger.watermark("other") is None


def test_totals_never_fall(store):
    assert store.ledger.totals() == Totals()
    run = started(store, None, "ingest")
    store.ledger.finish(
        run, "complete", NOW, rows_read=10, rows_rejected={"not_finite": 1}, source="db"
    )
    started(store)
    scored(store, [FLAG, replace(FLAG, flag_id="f2", kind="drift", user_id="bob")])
    first = store.ledger.totals()
    assert first.runs == {("ingest", "complete"): 1, ("month", "complete"): 1}
    assert first.rows_read == {"db": 10}
    assert first.rows_rejected == {"not_finite": 1}
    assert first.users_scored == 2
    assert first.flags == {("high", "burst"): 1, ("high", "drift"): 1}
    scored(store, [FLAG])
    second = store.ledger.totals()
    assert second.runs["month", "complete"] == 2, "the superseded one still counts"
    assert second.flags == {("high", "burst"): 2, ("high", "drift"): 1}
    assert second.users_scored == 3


def test_last_successes_and_states_of_months(store):
    february = scored(store, [], month="2026-02", state="provisional")
    march = scored(store, [])
    store.ledger.finish(started(store, "2026-04"), "failed", NOW)
    assert [run.id for run in store.ledger.last_successes()] == [march.id]
    found = [(run.month, run.state) for run in store.ledger.month_states()]
    assert found == [("2026-04", "failed"), ("2026-03", "complete"), ("2026-02", "provisional")]
    assert [run.month for run in store.ledger.month_states(limit=1)] == ["2026-04"]
    assert february.outcome == "provisional"


def test_flags_per_thousand_users_of_the_latest_complete_month(store):
    assert store.ledger.flags_per_thousand_user_months() is None
    scored(store, [FLAG, replace(FLAG, flag_id="f2")])
    scored(store, [], month="2026-04", state="provisional")
    assert store.ledger.flags_per_thousand_user_months() == 2_000.0


def test_what_lost_its_process_is_closed(store):
    lost = started(store, None, "ingest")
    month = started(store)
    store.ledger.close_interrupted("ingest", NOW)
    states = {run.id: (run.state, run.note) for run in store.ledger.runs()}
    assert states[lost.id] == ("failed", "interrupted")
    assert states[month.id][0] == "running"
