"""What is stuck, cancelled, stopped or dead: it is named in the ledger, and no run stays `running`."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from anomaly.exceptions import BusyError, SettingsError, SourceError
from anomaly.months import Month
from anomaly.progress import SILENT
from anomaly.settings import Settings, with_values
from pipelines.jobs.books import failing, staged
from pipelines.jobs.month import run_month
from pipelines.schedule import Scheduler
from pipelines.stopping import EXIT_CODE, Stopped
from pipelines.watch import Heard, Watchdog, where_stands
from tests.fixtures.jobs import Clock, at, behaviour, make_services, wait_for_end

SAME = {"configuration": "c1", "code_version": "1"}
MARCH = Month(2026, 3)


@pytest.fixture
def clock():
    return Clock(at("2026-05-20T00:00"))


@pytest.fixture
def services(sqlite_url, tmp_path, clock):
    return make_services(sqlite_url, tmp_path, clock)


def watched(services, ended, **run):
    """Services whose watchdog sets `ended` instead of ending the process."""
    settings = with_values(services.settings, "test", "run", **run)
    dog = Watchdog(services.store, services.clock, settings.run, lambda _: ended.set())
    return replace(services, settings=settings, watch=dog, progress=Heard(SILENT, dog))


def begun(services, job="month", month="2026-03", **changes):
    known = {"configuration": services.configuration, "code_version": services.code_version}
    return services.store.ledger.start(
        job, month, **known, now=services.clock(), **{"holder": "me", **changes}
    )


def test_a_stage_that_takes_too_long_is_ended_and_says_where_it_stood(services):
    ended = threading.Event()
    services = watched(services, ended, stage_limit="1s")
    outer, inner = begun(services, "score", None), begun(services)
    with failing(services, outer), failing(services, inner), staged(services, inner, "read"):
        assert ended.wait(20)
    run = services.store.ledger.get(inner.id)
    assert (run.state, run.outcome) == ("failed", "failed")
    assert run.note.startswith("stage read took longer than [run] stage_limit (1s); it stood at ")
    assert "threading.py" in run.note
    assert services.store.ledger.get(outer.id).note.startswith(f"ended with run {inner.id}: stage")


def test_where_it_stood_names_the_shard_that_is_waited_for(services):
    waiting = threading.Event()
    thread = threading.Thread(target=run_slowly, args=(services, waiting))
    thread.start()
    try:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            found = where_stands(thread.ident)
            if "scoring.py" in found and " > threading.py:" in found:
                break
            time.sleep(0.01)
    finally:
        waiting.set()
        thread.join()
    assert "pipelines/jobs/scoring.py" in found
    assert found.split(" > ")[-1].startswith("threading.py:")


def run_slowly(services, waiting):
    class Slow(type(services.engine())):
        def score(self, *arguments):
            waiting.wait(60)
            return super().score(*arguments)

    engine = Slow()
    services.store.observations.write(behaviour("2026-01", "2026-03"), "t")
    run_month(replace(services, engine=lambda: engine), MARCH)


def test_a_running_stage_is_in_the_ledger_with_its_heartbeat(services, clock):
    services = watched(services, threading.Event(), lease="1s")
    run = begun(services)
    with failing(services, run), staged(services, run, "read") as counts:
        (stage,) = services.store.ledger.stages(run.id)
        assert (stage.stage, stage.started_at, stage.finished_at) == ("read", clock(), None)
        clock.sleep(60)
        for _ in range(500):
            if services.store.ledger.get(run.id).heartbeat_at == clock():
                break
            time.sleep(0.02)
        assert services.store.ledger.get(run.id).heartbeat_at == clock()
        counts.rows, counts.skipped = 7, {"not_finite": 2}
    (stage,) = services.store.ledger.stages(run.id)
    assert (stage.rows, stage.skipped, stage.finished_at) == (7, {"not_finite": 2}, clock())
    assert stage.memory > 10 << 20


def test_work_that_hangs_is_told_from_a_process_that_is_gone(services, clock):
    services = watched(services, threading.Event(), lease="1s")
    run = begun(services)

    def beats():
        for _ in range(500):
            known = services.store.ledger.get(run.id)
            if known.heartbeat_at == clock():
                return known
            time.sleep(0.02)
        raise AssertionError("no heartbeat")

    with (
        failing(services, run),
        staged(services, run, "read"),
        services.progress.track("reading", 2) as advance,
    ):
        began = clock()
        clock.sleep(600)
        hung = beats()
        assert (hung.progress_at, hung.heartbeat_at) == (began, clock())
        clock.sleep(60)
        advance(1)
        clock.sleep(1)
        assert beats().progress_at == clock() - dt.timedelta(seconds=1)


def test_a_run_that_is_cancelled_ends_with_who_and_why(services, clock):
    ended = threading.Event()
    services = watched(services, ended, lease="1s")
    run = begun(services)
    with failing(services, run):
        services.store.requests.ask(
            "cancel", None, "ann", clock(), reason="wrong source", target=run.id
        )
        assert ended.wait(20)
    ended_run = services.store.ledger.get(run.id)
    assert (ended_run.state, ended_run.note) == ("failed", "cancelled by ann: wrong source")
    assert services.store.requests.cancelling([run.id]) == []


@pytest.mark.parametrize(("job", "state"), [("month", "running"), ("ingest", "failed")])
def test_a_stopped_month_stays_open_and_other_jobs_have_failed(services, job, state):
    run = begun(services, job)
    with pytest.raises(Stopped), failing(services, run):
        raise Stopped
    left = services.store.ledger.get(run.id)
    assert (left.state, left.holder) == (state, "")
    assert left.note.startswith("stopped")


def test_an_error_after_the_end_does_not_change_what_the_ledger_says(services, clock):
    run = begun(services)

    def end():
        with failing(services, run):
            services.store.ledger.finish(run, "failed", clock(), note="cancelled by ann")
            raise Stopped

    with pytest.raises(Stopped):
        end()
    assert services.store.ledger.get(run.id).note == "cancelled by ann"


class Started:
    def __init__(self):
        self.asked = []

    def __call__(self, arguments):
        self.asked.append(arguments)
        return 0


def leading(services, runner):
    made = Scheduler(services, runner)
    made.lead()
    return made


def settled(runner, count):
    for _ in range(500):
        if len(runner.asked) >= count:
            break
        time.sleep(0.01)
    return runner.asked


def test_a_silent_month_is_gone_on_with_once_then_it_has_failed(services, clock):
    runner = Started()
    made = leading(services, runner)
    run = begun(services)
    made.look_after()
    assert runner.asked == [], "it has just begun"
    clock.sleep(300)
    made.look_after()
    assert settled(runner, 1) == [["run", "--month", "2026-03"]]
    wait_for_end(made)
    made.look_after()
    left = services.store.ledger.get(run.id)
    assert (left.state, left.note) == (
        "failed", "its process fell silent after 2026-05-20 00:00 UTC",
    )  # fmt: skip


def test_a_silent_month_has_not_failed_while_what_goes_on_with_it_is_starting(services, clock):
    go_on = threading.Event()
    made = leading(services, lambda _: 0 if go_on.wait(10) else 1)
    run = begun(services)
    clock.sleep(300)
    made.look_after()
    clock.sleep(60)
    made.look_after()
    assert services.store.ledger.get(run.id).state == "running"
    go_on.set()
    wait_for_end(made)


def test_a_silent_job_without_a_month_has_failed(services, clock):
    made = leading(services, Started())
    run = begun(services, "ingest", None)
    clock.sleep(300)
    made.look_after()
    assert services.store.ledger.get(run.id).state == "failed"
    with pytest.raises(BusyError):
        services.store.ledger.finish(run, "complete", clock())


def test_a_silent_run_that_was_cancelled_is_not_gone_on_with(services, clock):
    runner = Started()
    made = leading(services, runner)
    run = begun(services)
    services.store.requests.ask("cancel", None, "ann", clock(), target=run.id)
    clock.sleep(300)
    made.look_after()
    assert "cancelled by ann" in services.store.ledger.get(run.id).note
    assert runner.asked == []


def test_every_month_since_the_first_has_a_row(services, clock):
    services.store.observations.write(behaviour("2026-01", "2026-05"), "t")
    clock.now = at("2026-03-10T00:00")
    run_month(services, Month(2026, 2))
    clock.now = at("2026-05-20T00:00")
    leading(services, Started())
    states = {run.month: run for run in services.store.ledger.month_states()}
    assert {month: run.state for month, run in states.items()} == {
        "2026-02": "complete", "2026-03": "missed", "2026-04": "missed", "2026-05": "planned",
    }  # fmt: skip
    assert states["2026-05"].planned_for == at("2026-06-04T00:00")
    assert states["2026-03"].note.startswith("not complete a day after 2026-04-04 00:00 UTC")
    run_month(services, MARCH)
    assert services.store.ledger.current("2026-03").state == "complete"
    clock.now = at("2026-06-04T02:30")
    run_month(services, Month(2026, 5))
    done = services.store.ledger.current("2026-05")
    assert (done.state, done.planned_for) == ("complete", at("2026-06-04T00:00")), "its own plan"


def test_a_run_that_began_is_shown_before_one_that_is_planned(services, clock):
    failed = services.store.ledger.finish(begun(services), "failed", clock())
    services.store.ledger.plan("month", at("2026-06-04T00:00"), "2026-03")
    assert services.store.ledger.current("2026-03").id == failed.id


def test_a_pause_writes_firings_as_missed_and_lasts_until_resumed(services, clock):
    runner = Started()
    made = leading(services, runner)
    services.store.requests.ask("pause", None, "ann", clock(), reason="moving the source")
    clock.now = at("2026-05-20T02:30:01")
    made.fire("score")
    made.acknowledge()
    missed = services.store.ledger.runs(job="score", states=("missed",))[0]
    assert missed.note == "paused by ann since 2026-05-20 00:00 UTC"
    assert runner.asked == []
    assert services.store.requests.waiting() == []
    assert services.store.requests.paused().reason == "moving the source"
    services.store.requests.ask("resume", None, "ann", clock())
    assert services.store.requests.paused() is None
    clock.now = at("2026-05-21T02:30:01")
    made.fire("score")
    assert settled(runner, 1)[0][:3] == ["schedule", "--once", "score"]


def test_a_month_is_scored_again_when_asked(services, clock):
    runner = Started()
    made = leading(services, runner)
    asked = services.store.requests.ask("rescore", "2026-03", "ann", clock())
    run = begun(services)
    made.serve_requests()
    assert runner.asked == [["run", "--month", "2026-03", "--force"]]
    (done,) = services.store.requests.latest(1)
    assert (done.id, done.run_id, done.note) == (asked.id, run.id, "done")


def test_another_schedule_withdraws_the_plans_of_the_old(services, clock):
    made = leading(services, Started())
    changed = Settings.model_validate(
        {**services.settings.model_dump(exclude_unset=True), "schedule": {"score": "0 6 * * *"}}
    )
    made.adopt(replace(services, settings=changed))
    planned = services.store.ledger.runs(job="score", states=("planned",))
    assert [run.planned_for for run in planned] == [at("2026-05-20T06:00")]


def test_a_schedule_that_names_no_times_replaces_nothing(services, clock):
    made = leading(services, Started())
    wrong = with_values(services.settings, "test", "schedule", score="30-10 2 * * *")
    with pytest.raises(SettingsError, match="names no times"):
        made.adopt(replace(services, settings=wrong))
    clock.now = at("2026-05-20T02:30:01")
    made.fire("score")
    planned = services.store.ledger.runs(job="score", states=("planned",))
    assert planned[0].planned_for == at("2026-05-21T02:30")


def test_another_schedule_holds_though_the_database_is_away(services, clock, monkeypatch):
    made = leading(services, Started())
    changed = with_values(services.settings, "test", "schedule", score="0 6 * * *")

    def away(*_, **__):
        raise SourceError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(services.store.ledger), "plan", away)
        made.adopt(replace(services, settings=changed))
    clock.now = at("2026-05-20T06:00:01")
    made.fire("score")
    planned = services.store.ledger.runs(job="score", states=("planned",))
    assert planned[0].planned_for == at("2026-05-21T06:00")


SLOW = """
import sys, time
import anomaly.sources
from anomaly.sources.placed import Placed
Placed.is_parquet = lambda self: False
anomaly.sources.read_file = lambda *_, **__: (time.sleep(60) for _ in range(1))
from pipelines.cli import main
sys.exit(main())
"""


def test_sigterm_unwinds_a_run_and_gives_its_lease_back(services, tmp_path):
    with hanging(services, tmp_path, ["-c", SLOW]) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_CODE, said
    assert "stopped; the same command goes on" in said
    run = services.store.ledger.runs(job="ingest", limit=1)[0]
    assert (run.state, run.note) == ("failed", "stopped")
    assert services.store.lease.holder("jobs") is None


def test_a_driver_that_hangs_is_cut_off_at_the_time_limit(services, tmp_path):
    """Opening a pipe that nobody writes to hangs outside Python, where no signal reaches it."""
    limits = {"ANOMALY_RUN__STAGE_LIMIT": "2s", "ANOMALY_RUN__STOP": "2s"}
    with hanging(services, tmp_path, ["-m", "pipelines"], **limits) as process:
        process.communicate(timeout=120)  # it ends by itself
    run = services.store.ledger.runs(job="ingest", limit=1)[0]
    assert run.state == "failed"
    assert run.note.startswith("stage read took longer than [run] stage_limit (2s); it stood at ")
    assert "anomaly/sources/" in run.note


@contextmanager
def hanging(services, tmp_path, program, **environment):
    """`anomaly run` over a source that never answers, once its read has begun."""
    pipe = tmp_path / "never.parquet"
    os.mkfifo(pipe)
    known = {
        **os.environ,
        "ANOMALY_DATABASE__URL": services.settings.database.url,
        "ANOMALY_SOURCE__PATH": str(pipe),
        **environment,
    }
    command = [sys.executable, *program, "run", "--month", "2026-03"]
    with subprocess.Popen(command, env=known, stderr=subprocess.PIPE, text=True) as process:
        try:
            until = time.monotonic() + 200
            while not services.store.ledger.stages() and time.monotonic() < until:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()
