"""The schedule: what is due, what was missed, what must not run twice; and the process itself."""

import datetime as dt
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from anomaly.exceptions import BusyError, SettingsError, SourceError, UsageError
from anomaly.months import Month
from anomaly.settings import ScheduleSettings, Settings, with_values
from pipelines.exclusive import JOBS as WORK
from pipelines.jobs.month import run_month
from pipelines.jobs.retention import due
from pipelines.jobs.scope import Options
from pipelines.schedule import (
    JOBS,
    Children,
    Scheduler,
    Timetable,
    do_job,
    guarded,
    months_to_score,
)
from tests.fixtures.jobs import Clock, at, behaviour, make_services, wait_for_end

NIGHT = "30 2 * * *"


def timetable(score, timezone="UTC"):
    return Timetable(ScheduleSettings(score=score, timezone=timezone))


@pytest.mark.parametrize(
    ("expression", "now", "latest", "following"),
    [
        (NIGHT, "2026-03-10T12:00", "2026-03-10T02:30", "2026-03-11T02:30"),
        (NIGHT, "2026-03-10T02:30", "2026-03-10T02:30", "2026-03-11T02:30"),
        ("0 2 1 * *", "2026-03-31T00:00", "2026-03-01T02:00", "2026-04-01T02:00"),
        ("*/5 * * * *", "2026-03-10T12:04", "2026-03-10T12:00", "2026-03-10T12:05"),
        ("0 4 29 2 *", "2026-03-10T12:00", None, "2028-02-29T04:00"),
        # 2026-03-10 is a Tuesday; cron counts from Sunday
        ("0 4 * * 0", "2026-03-10T12:00", "2026-03-08T04:00", "2026-03-15T04:00"),
        ("0 4 * * 7", "2026-03-10T12:00", "2026-03-08T04:00", "2026-03-15T04:00"),
        ("0 4 * * 1-5", "2026-03-09T03:00", "2026-03-06T04:00", "2026-03-09T04:00"),
        ("0 4 * * mon,3", "2026-03-10T12:00", "2026-03-09T04:00", "2026-03-11T04:00"),
        ("0 4 * * 5-7", "2026-03-10T12:00", "2026-03-08T04:00", "2026-03-13T04:00"),
        ("0 4 * * */2", "2026-03-09T12:00", "2026-03-08T04:00", "2026-03-10T04:00"),
    ],
)
def test_when_a_job_is_due(expression, now, latest, following):
    table = timetable(expression)
    assert table.latest("score", at(now)) == (at(latest) if latest else None)
    assert table.next("score", at(now)) == at(following)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("*/90 * * * *", "the step value .90. is higher than the total range"),
        ("30-10 2 * * *", "minimum value in a range must not be higher than the maximum"),
        ("jan 2 * * *", 'Unrecognized expression "jan" for field "minute"'),
        ("0 2 * * 5-1", "the days 5-1 end before they begin"),
    ],
)
def test_an_expression_that_names_no_times_is_a_wrong_setting(expression, why):
    with pytest.raises(
        SettingsError,
        match=rf"\[schedule\] score = '{re.escape(expression)}' names no times: .*{why}",
    ):
        timetable(expression)


def test_expressions_are_read_in_the_schedules_zone():
    table = timetable(NIGHT, "Europe/Berlin")
    assert table.next("score", at("2026-01-10T00:00")) == at("2026-01-10T01:30")
    assert table.next("score", at("2026-07-10T00:00")) == at("2026-07-10T00:30")
    # 02:30 does not exist on the night the clock springs forward; the day is not left out
    spring = table.next("score", at("2026-03-28T12:00"))
    assert spring.astimezone(ZoneInfo("Europe/Berlin")).date() == dt.date(2026, 3, 29)


@pytest.mark.parametrize("year", [2026, 2028])
@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe",
     "Asia/Kolkata", "Africa/Casablanca", "America/Santiago"],
)  # fmt: skip
def test_a_nightly_job_is_due_once_a_day_through_a_year_of_any_zone(zone, year):
    """Both changes of the clock, a leap day, and the year's ends."""
    table = timetable(NIGHT, zone)
    local = ZoneInfo(zone)
    now = dt.datetime(year - 1, 12, 31, 12, tzinfo=local).astimezone(dt.UTC)
    days = []
    while not days or days[-1] < dt.date(year, 12, 31):
        due = table.next("score", now)
        assert due > now
        assert table.latest("score", due) == due
        days.append(due.astimezone(local).date())
        now = due
    first = dt.date(year, 1, 1)
    assert days == [first + dt.timedelta(days=day) for day in range(len(days))]
    assert len(days) == (366 if year == 2028 else 365)


def test_what_is_due_in_every_hour_is_due_in_an_hour_that_comes_twice_too():
    table = timetable("15 * * * *", "Europe/Berlin")
    now, due = at("2026-10-24T23:00"), []
    for _ in range(4):
        now = table.next("score", now)
        due.append(now)
    assert due == [
        at(f"2026-10-{when}") for when in ("24T23:15", "25T00:15", "25T01:15", "25T02:15")
    ]


class Runs:
    """Command lines that were to be run; each waits for `release`, then ends with `code`."""

    def __init__(self, code=0):
        self.asked = []
        self.code = code
        self.release = threading.Event()
        self.release.set()

    def __call__(self, arguments):
        self.asked.append(arguments)
        self.release.wait(10)
        return self.code

    def settled(self, count):
        """Wait for so many."""
        for _ in range(500):
            if len(self.asked) >= count:
                return self.asked
            time.sleep(0.01)
        raise AssertionError(self.asked)


@pytest.fixture
def clock():
    return Clock(at("2026-03-10T12:00"))


@pytest.fixture
def services(sqlite_url, tmp_path, clock):
    return make_services(sqlite_url, tmp_path, clock)


def scheduler(services, runs):
    made = Scheduler(services, runs)
    made.lead()
    return made


def ledger_of(services, job="score"):
    runs = reversed(services.store.ledger.runs(job=job))
    return [(run.state, run.planned_for, run.note) for run in runs]


def test_a_fresh_scheduler_plans_and_makes_nothing_up(services):
    runs = Runs()
    scheduler(services, runs)
    assert ledger_of(services) == [("planned", at("2026-03-11T02:30"), None)]
    assert ledger_of(services, "train") == [("planned", at("2026-04-01T02:00"), None)]
    assert runs.asked == []


def test_what_was_missed_is_made_up_once(services, clock):
    scheduler(services, Runs())
    clock.now = at("2026-03-14T09:00")
    runs = Runs()
    scheduler(services, runs)
    # four nights of ingest and score were missed, train was not due
    jobs = sorted(runs.settled(2))
    assert jobs == [["schedule", "--once", "ingest"], ["schedule", "--once", "score"]]
    assert ledger_of(services) == [
        ("missed", at("2026-03-11T02:30"), "no scheduler was running; a later one was made up"),
        ("missed", at("2026-03-14T02:30"), "no scheduler was running; made up once"),
        ("planned", at("2026-03-15T02:30"), None),
    ]
    again = Runs()
    scheduler(services, again)
    assert again.asked == []
    assert services.store.ledger.totals().missed == {"ingest": 2, "score": 2}


def test_a_job_whose_time_has_come_is_run_with_its_plan(services, clock):
    runs = Runs()
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    asked = runs.settled(1)
    assert asked == [["schedule", "--once", "score", "--planned-for", "2026-03-11T02:30:00+00:00"]]
    assert ledger_of(services)[-1] == ("planned", at("2026-03-12T02:30"), None)


def test_a_clock_that_jumps_back_and_forth_makes_no_job_due_twice(services, clock):
    runs = Runs()
    made = scheduler(services, runs)
    for moment in ("2026-03-11T02:30:01", "2026-03-11T01:45", "2026-03-11T02:30:01"):
        clock.now = at(moment)
        made.fire("score")
        runs.settled(1)
        wait_for_end(made)
    plans = [planned for _, planned, _ in ledger_of(services)]
    assert len(plans) == len(set(plans))
    clock.now = at("2026-03-14T02:31")
    made.make_up("score")
    wait_for_end(made)
    clock.now = at("2026-03-11T12:00")
    made.make_up("score")
    wait_for_end(made)
    plans = [planned for _, planned, _ in ledger_of(services)]
    assert len(plans) == len(set(plans))


@pytest.fixture
def away(monkeypatch):
    """Takes the database away from a method of the store, until it is undone."""

    def take(holder, name):
        def nothing(*_, **__):
            raise SourceError("the database cannot be reached")

        monkeypatch.setattr(holder, name, nothing)

    return take


def test_what_could_not_begin_because_the_database_was_away_is_made_up(
    services, clock, away, monkeypatch
):
    runs = Runs()
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    services.store.ledger.missed("ingest", at("2026-03-11T01:15"), clock())
    away(services.store.requests, "paused")
    guarded(made.fire)("score")
    monkeypatch.undo()
    clock.now = at("2026-03-11T02:31:00")
    made.look_after()  # it may still be about to begin
    assert runs.asked == []
    clock.now = at("2026-03-11T02:33:00")
    made.look_after()
    assert runs.settled(1) == [["schedule", "--once", "score"]]
    wait_for_end(made)
    made.look_after()
    assert len(runs.asked) == 1
    assert ledger_of(services) == [
        ("missed", at("2026-03-11T02:30"), "it could not begin at its time; made up once"),
        ("planned", at("2026-03-12T02:30"), None),
    ]


def test_one_whose_end_nobody_could_write_down_is_made_up(services, clock, away, monkeypatch):
    runs = Runs(code=SourceError.exit_code)
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    away(services.store.ledger, "missed")
    made.fire("score")
    wait_for_end(made)
    monkeypatch.undo()
    runs.asked.clear()
    clock.now = at("2026-03-11T02:33:00")
    made.look_after()
    assert ["schedule", "--once", "score"] in runs.settled(2)


def test_a_run_that_is_still_going_is_not_started_twice(services, clock):
    runs = Runs()
    runs.release.clear()
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    runs.settled(1)
    clock.now = at("2026-03-12T02:30:01")
    made.fire("score")
    runs.release.set()
    assert len(runs.asked) == 1
    assert ledger_of(services)[1:] == [
        ("missed", at("2026-03-12T02:30"), "the run begun at 2026-03-11 02:30 UTC is still going"),
        ("planned", at("2026-03-13T02:30"), None),
    ]


def test_what_was_held_back_is_told_while_the_scheduler_goes(services, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr("pipelines.schedule.TELL_SECONDS", 0.05)
    monkeypatch.setattr("pipelines.schedule.tell", lambda services: told.set())
    with Scheduler(services, Runs()).running():
        assert told.wait(10)


def test_a_job_that_finds_another_process_at_work_is_written_as_missed(services, clock):
    runs = Runs(code=BusyError.exit_code)
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    for _ in range(500):
        if ledger_of(services)[0][0] == "missed":
            break
        time.sleep(0.01)
    assert ledger_of(services)[0] == ("missed", at("2026-03-11T02:30"), "another run was going")


def test_a_job_that_a_signal_ended_before_it_began_names_the_signal(services, clock):
    made = scheduler(services, Runs(code=-9))
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    wait_for_end(made)
    ended = ("missed", at("2026-03-11T02:30"), "its process was ended by SIGKILL")
    assert ledger_of(services)[0] == ended


def test_a_job_that_ends_with_its_scheduler_before_it_began_is_made_up(services, clock):
    runs = Runs(code=-15)
    runs.release.clear()
    made = scheduler(services, runs)
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    made.step_down()
    runs.release.set()
    wait_for_end(made)
    again = Runs()
    scheduler(services, again)
    assert ["schedule", "--once", "score"] in again.settled(2)


def test_of_two_schedulers_one_fires(services, sqlite_url, tmp_path, clock):
    first = scheduler(services, Runs())
    other = make_services(sqlite_url, tmp_path, clock, holder="other")
    runs = Runs()
    second = scheduler(other, runs)
    assert (first.leads, second.leads) == (True, False)
    clock.now = at("2026-03-11T02:30:01")
    second.fire("score")
    assert runs.asked == []
    second.lead()  # the first has been silent for longer than the lease
    assert second.leads
    assert len(runs.settled(2)) == 2
    first.lead()
    assert not first.leads


def test_runs_that_were_asked_for_are_done(services, clock):
    services.store.requests.ask("month", "2026-02", "someone", clock())
    services.store.requests.ask("month", "2026-01", "someone", clock())
    runs = Runs()
    scheduler(services, runs).serve_requests()
    assert runs.asked == [["run", "--month", "2026-02"], ["run", "--month", "2026-01"]]
    assert services.store.requests.waiting() == []


def test_one_that_was_asked_for_waits_while_another_run_is_at_work(services, clock):
    services.store.requests.ask("month", "2026-02", "someone", clock())
    codes = [BusyError.exit_code, 0]
    made = scheduler(services, lambda _: codes.pop(0))
    made.serve_requests()
    assert [one.month for one in services.store.requests.waiting()] == ["2026-02"]
    made.serve_requests()
    (done,) = services.store.requests.latest(1)
    assert (done.note, codes) == ("done", [])


def test_one_that_was_asked_for_waits_for_a_job_of_the_schedule(services, clock):
    services.store.requests.ask("month", "2026-02", "someone", clock())
    go_on = threading.Event()
    asked = []

    def run(arguments):
        asked.append(arguments[0])
        return 0 if go_on.wait(10) else 1

    made = scheduler(services, run)
    clock.now = at("2026-03-11T02:30:01")
    made.fire("score")
    made.serve_requests()
    assert len(services.store.requests.waiting()) == 1
    go_on.set()
    wait_for_end(made)
    made.serve_requests()
    assert asked == ["schedule", "run"]


def test_a_second_look_for_what_was_asked_for_does_not_wait_for_the_first(services, clock):
    services.store.requests.ask("month", "2026-02", "someone", clock())
    asked = []

    def run(arguments):
        asked.append(arguments[-1])
        if asked == ["2026-02"]:
            services.store.requests.ask("month", "2026-01", "someone", clock())
            made.serve_requests()
            assert asked == ["2026-02"]
        return 0

    made = scheduler(services, run)
    made.serve_requests()
    assert asked == ["2026-02", "2026-01"]


def test_what_was_asked_for_and_stopped_with_the_scheduler_waits_for_the_next(services, clock):
    services.store.requests.ask("rescore", "2026-02", "someone", clock())

    def stopped(_):
        made.step_down()
        return 143

    made = scheduler(services, stopped)
    made.serve_requests()
    assert [one.job for one in services.store.requests.waiting()] == ["rescore"]


def test_what_a_scheduler_that_is_gone_had_taken_up_is_done_by_the_next(services, clock):
    services.store.requests.ask("rescore", "2026-02", "someone", clock())
    services.store.requests.take(clock(), "gone")
    runs = Runs()
    scheduler(services, runs).serve_requests()
    assert runs.asked == [["run", "--month", "2026-02", "--force"]]


def test_what_was_asked_for_names_the_run_that_did_it_not_one_that_was_missed(services, clock):
    ledger = services.store.ledger
    run = ledger.start("month", "2026-02", configuration="c", code_version="1", now=clock())
    ledger.finish(run, "complete", clock())
    ledger.missed("month", at("2026-03-04T00:00"), clock())
    services.store.requests.ask("month", "2026-02", "someone", clock())
    scheduler(services, Runs()).serve_requests()
    assert services.store.requests.latest(1)[0].run_id == run.id


def test_months_are_scored_nightly_and_closed_when_late_rows_are_no_longer_awaited(services, clock):
    services.store.observations.write(behaviour("2026-01", "2026-03"), "t")
    clock.now = at("2026-03-02T02:30")
    assert months_to_score(services) == [Month(2026, 2), Month(2026, 3)]
    said = list(do_job(services, "score", None))
    assert said == ["2026-02 provisional: 0 flags", "2026-03 provisional: 0 flags"]
    clock.now = at("2026-03-04T02:30")
    said = list(do_job(services, "score", None))
    assert said == ["2026-02 complete: 0 flags", "2026-03 provisional: 0 flags"]
    assert months_to_score(services) == [Month(2026, 3)]
    clock.now = at("2026-04-01T02:30")
    services.store.ledger.plan("score", clock.now)
    said = list(do_job(services, "score", clock.now))
    assert said[0] == "2026-03 provisional: 0 flags"
    assert said[1].startswith("2026-04 not scored: 2026-04 holds no rows")
    state, planned_for, note = ledger_of(services)[-1]
    assert (state, planned_for) == ("complete", clock.now)
    assert "2026-03 provisional" in note


def refusing(monkeypatch, refused, error):
    """Let the run of one month raise."""

    def scored(services, month):
        if month == refused:
            raise error
        return run_month(services, month)

    monkeypatch.setattr("pipelines.schedule.run_month", scored)


def test_a_month_that_cannot_be_scored_keeps_no_later_one_back(services, clock, monkeypatch):
    services.store.observations.write(behaviour("2026-01", "2026-04"), "t")
    clock.now = at("2026-04-10T02:30")
    refusing(monkeypatch, Month(2026, 3), UsageError("no model was trained before it"))
    said = list(do_job(services, "score", None))
    assert said == [
        "2026-03 not scored: no model was trained before it",
        "2026-04 provisional: 0 flags",
    ]
    assert ledger_of(services)[-1][0] == "complete"


def test_a_month_that_ends_in_an_unforeseen_error_fails_the_run_when_all_else_is_done(
    keeping, clock, monkeypatch
):
    keeping.store.observations.write(behaviour("2026-05", "2026-05"), "t")
    refusing(monkeypatch, Month(2026, 4), ValueError("not foreseen"))
    told = []
    monkeypatch.setattr("pipelines.schedule.tell_carefully", told.append)
    with pytest.raises(ValueError, match="not foreseen"):
        list(do_job(keeping, "score", None))
    assert keeping.store.ledger.current("2026-05").state == "provisional"
    assert {one.rows for one in due(keeping)} == {0}
    assert told == [keeping]
    assert ledger_of(keeping)[-1] == ("failed", None, "ValueError")


def test_a_daily_grid_has_nothing_to_score_on_the_first_of_a_month_and_has_not_failed(
    services, clock
):
    services = replace(services, settings=with_values(services.settings, "test", "grid", step="1d"))
    services.store.observations.write(behaviour("2026-01", "2026-04"), "t")
    clock.now = at("2026-04-01T02:30")
    said = list(do_job(services, "score", None))
    assert said[-1].startswith("2026-04 not scored: 2026-04: no step of it is over yet")
    assert ledger_of(services)[-1][0] == "complete"


@pytest.mark.parametrize("kills", [1, 4])
def test_a_month_whose_process_takes_the_scheduler_with_it_is_gone_on_with_once(
    services, sqlite_url, tmp_path, clock, kills
):
    ledger = services.store.ledger
    told = {"configuration": "c", "code_version": "1"}
    run = ledger.start("month", "2026-03", **told, now=clock(), holder="child")
    asked = []
    for number in range(kills):
        clock.sleep(600)
        runs = Runs(code=-9)
        made = scheduler(
            make_services(sqlite_url, tmp_path, clock, holder=f"server {number}"), runs
        )
        made.look_after()
        wait_for_end(made)
        asked += [arguments for arguments in runs.asked if arguments[0] == "run"]
        ledger.resume("month", "2026-03", **told, now=clock(), holder=f"child {number}")
    assert asked == [["run", "--month", "2026-03"]]
    assert ledger.get(run.id).state == ("running" if kills == 1 else "failed")


@pytest.fixture
def keeping(services):
    """Services that keep two months of rows and a month of what was replaced, with more at hand."""
    settings = services.settings
    for section, values in {
        "retention": {"observations_months": 2, "superseded_months": 1},
        "model": {"history_months": 2},
    }.items():
        settings = with_values(settings, "test", section, **values)
    services.store.observations.write(behaviour("2026-01", "2026-04"), "t")
    services.clock.now = at("2026-04-10T02:30")
    for _ in range(2):
        run_month(services, Month(2026, 3), Options(force=True))
    services.clock.now = at("2026-05-10T02:30")
    return replace(services, settings=settings)


def within(services, clock):
    """A runner that does the scheduler's jobs here and says what each said."""
    said = []

    def runner(arguments):
        clock.now += dt.timedelta(seconds=1)
        planned_for = dt.datetime.fromisoformat(arguments[-1])
        said.append(list(do_job(services, arguments[2], planned_for)))
        return 0

    return said, runner


def test_the_schedule_deletes_what_the_policy_says_once_and_writes_it_down(keeping, clock):
    promised = {one.what: one.rows for one in due(keeping) if one.rows}
    april = 2 * 6 * 30 * 4
    assert promised == {
        "observations": 2 * 6 * (31 + 28) * 4,
        "results of superseded and failed runs": 6,
    }
    said, runner = within(keeping, clock)
    made = scheduler(keeping, runner)
    for night in ("2026-05-11T02:30:01", "2026-05-12T02:30:01"):
        clock.now = at(night)
        made.fire("score")
        wait_for_end(made)
    told = [f"{rows} {what} before {since} deleted" for (what, rows), since in
            zip(promised.items(), ("2026-03", "2026-04"), strict=True)]  # fmt: skip
    assert [line for line in said[0] if line.endswith("deleted")] == told
    assert [line for line in said[1] if line.endswith("deleted")] == []
    assert keeping.store.kept.count() == april + 2 * 6 * 31 * 4
    first, second, _ = ledger_of(keeping)
    assert first[:2] == ("complete", at("2026-05-11T02:30"))
    assert all(line in first[2] for line in told)
    assert "deleted" not in second[2]
    (row,) = [row for row in keeping.audit.rows() if row.action == "retention.delete"]
    assert all(f"{rows} rows" in row.reason for rows in promised.values())
    assert keeping.audit.rows(actor="schedule") == [row]


def test_training_is_done_when_it_is_due(services, clock):
    services.store.observations.write(behaviour("2026-01", "2026-05"), "t")
    assert "trained" in next(iter(do_job(services, "train", None)))
    assert "is young enough" in next(iter(do_job(services, "train", None)))
    clock.now = at("2026-07-01T02:00")
    assert "trained" in next(iter(do_job(services, "train", None)))
    assert len(services.engine().fitted) == 2


def test_a_trained_model_is_no_word_on_the_months_states(services, clock):
    services.store.observations.write(behaviour("2026-01", "2026-04"), "t")
    list(do_job(services, "train", None))
    clock.now = at("2026-06-01T00:00")
    run_month(services, Month(2026, 3))
    champion = services.store.models.champion()
    assert len(services.store.states.read(champion.version, "2026-03")) == 6
    assert run_month(services, Month(2026, 4)).users_scored == 6


def test_ingest_without_a_source_says_so(services):
    assert list(do_job(services, "ingest", None)) == ["ingest: no [source] is configured"]
    assert ledger_of(services, "ingest") == [("complete", None, "no [source] is configured")]


@pytest.mark.parametrize("job", ["ingest", "train", "score"])
def test_a_scheduled_job_that_meets_a_live_holder_is_busy_and_has_not_failed(services, clock, job):
    ttl = dt.timedelta(seconds=30)
    token = services.store.lease.acquire(WORK, "other", ttl, clock())

    def renewed(seconds):
        clock.sleep(seconds)
        services.store.lease.renew(WORK, "other", token, ttl, clock())

    with pytest.raises(BusyError):
        list(do_job(replace(services, sleep=renewed), job, None))
    assert ledger_of(services, job) == []


def test_children_end_with_the_scheduler():
    children = Children(None, grace=10)
    children._prefix = [sys.executable, "-c"]
    codes = []
    waiting = threading.Thread(
        target=lambda: codes.append(children.run(["import time; time.sleep(60)"]))
    )
    waiting.start()
    while not children._running:
        time.sleep(0.01)
    children.stop()
    waiting.join(15)
    assert codes == [-signal.SIGTERM]
    assert children.run(["pass"]) == BusyError.exit_code


def test_the_process_ends_with_0_on_sigterm(services, tmp_path):
    config = tmp_path / "anomaly.toml"
    config.write_text(f'[database]\nurl = "{services.settings.database.url}"\n')
    command = [sys.executable, "-m", "pipelines", "schedule", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "scheduler_started" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert services.store.lease.holder("scheduler") is None
    assert {run.state for run in services.store.ledger.runs(job="score")} == {"planned"}


def test_settings_of_a_schedule_are_all_used():
    jobs = set(Settings().schedule.model_dump()) - {"timezone"}
    assert jobs == set(JOBS)
