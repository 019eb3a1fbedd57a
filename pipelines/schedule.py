"""Does jobs when [schedule] says. What ran and what was missed is read from the ledger.

The next firing of each job stands in the ledger as planned, so a scheduler that comes back knows
what it slept through: the latest of it is made up once. So do months: each is planned for the time
when late rows are no longer awaited, and missed if it is not complete a day after that. A run whose
process fell silent is not left `running`: a month is gone on with once, anything else has failed.

Jobs run in processes of their own, which keeps their memory out of the server and lets SIGTERM end
it at once; an interrupted month goes on where it stopped. Of several schedulers on one database only
the holder of a lease fires.
"""

from __future__ import annotations

import datetime as dt
import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from anomaly.exceptions import AnomalyError, BusyError, SettingsError, SourceError
from anomaly.months import Month, month_of, months_between, parse_duration, zone
from anomaly.ports import PAUSES, RESCORE
from anomaly.store.lease import LEADER
from pipelines.configuration import configured
from pipelines.exclusive import RENEWALS_PER_LEASE, exclusive
from pipelines.jobs.books import MONTH_JOB, failing
from pipelines.jobs.ingest import ingest_source
from pipelines.jobs.month import run_month
from pipelines.jobs.reopen import take_in
from pipelines.jobs.retention import delete_due
from pipelines.jobs.scope import closing_time
from pipelines.jobs.tell import tell, tell_carefully
from pipelines.jobs.train import NO_TRAINING, can_train, due, train_and_register

if TYPE_CHECKING:
    from anomaly.settings import ScheduleSettings
    from anomaly.store import Run, Token
    from pipelines.services import Services

JOBS = ("ingest", "train", "score")
REQUEST_SECONDS = 5  # how often asked-for runs are looked for
TAKEN_UP_STAGE = "taken_up"  # of a run whose process fell silent: it is gone on with once
SILENT_LEASES = 3  # a run without a heartbeat for so many leases has lost its process
OVERDUE = dt.timedelta(days=1)  # a month not complete so long after its closing time is missed
TELL_SECONDS = 60  # how often people are told what was held back
LOOK_BACK = tuple(dt.timedelta(days=days) for days in (1 / 24, 1, 8, 32, 366))
BEGUN = ("running", "provisional", "complete", "failed")  # states of runs that did begin
CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")  # by cron's numbers, 7 is 0

# Runs `anomaly` with these arguments to its end and gives its exit code.
Runner = Callable[[list[str]], int]


class Timetable:
    """When each job is due, by its cron expression and the schedule's time zone."""

    def __init__(self, settings: ScheduleSettings) -> None:
        self._triggers = {
            job: cron_trigger(job, getattr(settings, job), settings.timezone) for job in JOBS
        }

    def trigger(self, job: str) -> CronTrigger:
        """The job's trigger."""
        return self._triggers[job]

    def next(self, job: str, now: dt.datetime) -> dt.datetime | None:
        """The first firing after `now`, aware UTC; None if there is none."""
        found = self._triggers[job].get_next_fire_time(None, now + dt.timedelta(microseconds=1))
        return None if found is None else found.astimezone(dt.UTC)

    def latest(self, job: str, now: dt.datetime) -> dt.datetime | None:
        """The last firing at or before `now`, of the last year."""
        for span in LOOK_BACK:
            found = None
            when = self.next(job, now - span)
            while when is not None and when <= now:
                found, when = when, self.next(job, when)
            if found is not None:
                return found
        return None


class OnceTrigger(CronTrigger):  # type: ignore[misc]  # APScheduler carries no types
    """Fires once at an hour of the clock that comes twice, as cron does, when clocks go back."""

    def get_next_fire_time(
        self, previous_fire_time: dt.datetime | None, now: dt.datetime
    ) -> dt.datetime | None:
        """The first firing after both, but none in an hour's second coming."""
        found: dt.datetime | None = super().get_next_fire_time(previous_fire_time, now)
        while found is not None and found.fold:
            # Added to in UTC: local times forget, when added to, which coming they are of.
            later = found.astimezone(dt.UTC) + dt.timedelta(microseconds=1)
            found = super().get_next_fire_time(None, later)
        return found


def cron_trigger(job: str, expression: str, timezone: str) -> CronTrigger:
    """A trigger for a job's cron expression. Cron counts days of the week from Sunday, APScheduler not.

    Raises: SettingsError for an expression that names no times.
    """
    minute, hour, day, month, weekday = expression.split()
    kind = CronTrigger if hour.startswith("*") else OnceTrigger
    try:
        return kind(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=",".join(map(_named_days, weekday.split(","))),
            timezone=zone(timezone),
        )
    except ValueError as error:
        raise SettingsError(
            f"[schedule] {job} = {expression!r} names no times: {error}. Write five fields, minute "
            "first: 30 2 * * *"
        ) from error


def _named_days(part: str) -> str:
    """A part of cron's day-of-week field with its numbers as names."""
    span, slash, every = part.partition("/")
    first, dash, last = ("0", "-", "6") if span == "*" and slash else span.partition("-")
    if not first.isdecimal():
        return part
    end = int(last) if dash else 6 if slash else int(first)
    if end < int(first):
        raise ValueError(f"the days {span} end before they begin")
    days = range(int(first), end + 1, int(every) if slash else 1)
    return ",".join(CRON_DAYS[day] for day in days)


class Scheduler:
    """Fires jobs, one instance of each at a time, while it leads."""

    def __init__(self, services: Services, runner: Runner) -> None:
        self._services = services
        self._runner = runner
        self._timetable = Timetable(services.settings.schedule)
        self._going: dict[str, dt.datetime] = {}
        self._revived: set[int] = set()
        self._lock = threading.Lock()
        self._serving = threading.Lock()
        self._token: Token | None = None
        self._clockwork: BackgroundScheduler | None = None

    @property
    def leads(self) -> bool:
        """Whether this scheduler is the one that fires."""
        return self._token is not None

    @property
    def alive(self) -> bool:
        """Whether the clockwork still goes; True before it was started."""
        return self._clockwork is None or self._clockwork.running

    def adopt(self, services: Services) -> None:
        """Go on under other settings: plans of the old schedule that have not come due are withdrawn.

        Raises: SettingsError for a schedule that names no times; then the old one goes on.
        """
        timetable = Timetable(services.settings.schedule)
        self._services, self._timetable = services, timetable
        if self._clockwork is not None:
            for job in JOBS:
                self._clockwork.reschedule_job(job, trigger=self._timetable.trigger(job))
        for job in JOBS if self.leads else ():
            guarded(self._plan_next)(job)  # without a database the next firing plans

    def lead(self) -> None:
        """Take or keep the lease; who newly leads makes up what was missed."""
        services = self._services
        ttl, now = parse_duration(services.settings.run.lease), services.clock()
        lease, held = services.store.lease, self._token
        if held is not None and lease.renew(LEADER, services.holder, held, ttl, now):
            return
        self._token = lease.acquire(LEADER, services.holder, ttl, now)
        if self._token is not None:
            services.store.requests.put_back_others(services.holder)
            self.expect_months()
            for job in JOBS:
                self.make_up(job)

    def look_after(self) -> None:
        """Plan months, make up what was due and not begun, and see to runs whose process fell silent."""
        if not self.leads:
            return
        self.expect_months()
        now = self._services.clock()
        silence = SILENT_LEASES * parse_duration(self._services.settings.run.lease)
        for job in JOBS:  # of which the database was away when they were to begin
            if job not in self._going and self._overdue(job, now - silence):
                self.make_up(job, "it could not begin at its time")
        for run in self._services.store.ledger.runs(states=("running",)):
            beaten = run.heartbeat_at or run.started_at or now
            if not run.holder or now - beaten > silence:
                self._see_to(run, now)

    def expect_months(self) -> None:
        """Plan each month for its closing time, and say of those that are overdue that they were missed.

        From the earliest month in the ledger on, at most a year back; a month that nobody ran is then
        among those that the next scoring makes up for.
        """
        services = self._services
        now = services.clock()
        states = {
            Month.parse(run.month): run.state
            for run in services.store.ledger.month_states()
            if run.month is not None
        }
        current = month_of(now, services.timezone)
        first = max(min(states, default=current), current.plus(-12))
        for month in months_between(first, current):
            if states.get(month) in {"complete", "running"}:
                continue
            closing = closing_time(services, month)
            services.store.ledger.plan(MONTH_JOB, closing, str(month))
            if now > closing + OVERDUE:
                note = (
                    f"not complete a day after {closing:%Y-%m-%d %H:%M} UTC; the next scoring tries"
                )
                services.store.ledger.missed(MONTH_JOB, closing, now, note)

    def _see_to(self, run: Run, now: dt.datetime) -> None:
        """Go on with a month whose process has gone, once; close anything else as failed."""
        store = self._services.store
        name = f"{MONTH_JOB} {run.month}"
        with self._lock:
            if name in self._going:  # what goes on with it has not said so yet
                return
        cancelled = store.requests.cancelling([run.id])
        for request in cancelled:
            store.requests.done(request, now, run.id, "cancelled")
        if run.job == MONTH_JOB and not cancelled and self._may_revive(run):
            structlog.get_logger().warning("run_taken_up", run_id=run.id, month=run.month)
            self._start(name, now, ["run", "--month", str(run.month)], None)
            return
        beaten = run.heartbeat_at or run.started_at or now
        note = f"its process fell silent after {beaten:%Y-%m-%d %H:%M} UTC"
        if cancelled:
            note += f"; cancelled by {cancelled[0].author}"
        store.ledger.interrupt(run, now, note, resumable=False)
        structlog.get_logger().error("run_silent", run_id=run.id, job=run.job)

    def _may_revive(self, run: Run) -> bool:
        """Whether a month has not been gone on with before; from now on it has been.

        A process that fell silent may have taken this one with it, so that is kept in the ledger. One
        that was stopped, and said so, is known here alone.
        """
        ledger = self._services.store.ledger
        if run.id in self._revived or TAKEN_UP_STAGE in {s.stage for s in ledger.stages(run.id)}:
            return False
        self._revived.add(run.id)
        if run.holder:
            ledger.stage(run, TAKEN_UP_STAGE, 0.0, now=self._services.clock())
        return True

    def step_down(self) -> None:
        """Give the lease back."""
        if self._token is not None:
            self._services.store.lease.release(LEADER, self._services.holder, self._token)
            self._token = None

    def make_up(self, job: str, why: str = "no scheduler was running") -> None:
        """Write down what was missed and why, do the latest of it once, plan the next."""
        now = self._services.clock()
        latest = self._timetable.latest(job, now)
        overdue = self._overdue(job, now)
        last = self._services.store.ledger.last_planned(job)
        if latest is not None and last is not None and (overdue or last < latest):
            for when in sorted({*overdue, latest}):
                done = "made up once" if when == latest else "a later one was made up"
                self._services.store.ledger.missed(job, when, now, note=f"{why}; {done}")
            if self._services.store.requests.paused() is None:
                self._start(job, now, ["schedule", "--once", job], None)
        self._plan_next(job)

    def fire(self, job: str) -> None:
        """Do a job whose time has come, unless its last run is still going."""
        if not self.leads:
            return
        now = self._services.clock()
        planned_for = self._timetable.latest(job, now) or now
        pause = self._services.store.requests.paused()
        with self._lock:
            going = self._going.get(job)
        if pause is not None:
            note = f"paused by {pause.author} since {pause.asked_at:%Y-%m-%d %H:%M} UTC"
            self._services.store.ledger.missed(job, planned_for, now, note=note)
        elif going is not None:
            self._services.store.ledger.missed(
                job,
                planned_for,
                now,
                note=f"the run begun at {going:%Y-%m-%d %H:%M} UTC is still going",
            )
        else:
            self._services.store.ledger.plan(job, planned_for)
            arguments = ["schedule", "--once", job, "--planned-for", planned_for.isoformat()]
            self._start(job, now, arguments, planned_for)
        self._plan_next(job)

    def serve_requests(self) -> None:
        """Do the runs that people have asked for on the page, one after another.

        They wait while another run is at work, whether this scheduler's or not. A call meanwhile leaves
        them to this one.
        """
        if self._serving.acquire(blocking=False):
            try:
                self._serve_waiting()
            finally:
                self._serving.release()

    def _serve_waiting(self) -> None:
        services = self._services
        while self.leads and not self._going:
            request = services.store.requests.take(services.clock(), services.holder)
            if request is None:
                return
            arguments = ["run", "--month", str(request.month)]
            code = self._runner([*arguments, "--force"] if request.job == RESCORE else arguments)
            if code == BusyError.exit_code or (code and not self.leads):  # or stopped with this
                services.store.requests.put_back(request)
                return
            note = "done" if code == 0 else f"ended with exit code {code}; see the ledger"
            ran = services.store.ledger.runs(
                job=MONTH_JOB, month=request.month, states=BEGUN, limit=1
            )
            run_id = ran[0].id if ran else None
            services.store.requests.done(request, services.clock(), run_id, note)

    def tell(self) -> None:
        """Send what a failure, the rate or quiet hours held back."""
        if self.leads:
            tell(self._services)

    def acknowledge(self) -> None:
        """Close pauses and resumptions, which hold from when they were asked for."""
        services = self._services
        while self.leads:
            request = services.store.requests.take(services.clock(), services.holder, PAUSES)
            if request is None:
                return
            services.store.requests.done(request, services.clock(), note="done")
            structlog.get_logger().warning("schedule_changed", work=request.job)

    def _start(
        self, job: str, now: dt.datetime, arguments: list[str], planned_for: dt.datetime | None
    ) -> None:
        threading.Thread(
            target=self._carry_out, args=(job, now, arguments, planned_for), name=job, daemon=True
        ).start()

    def _carry_out(
        self, job: str, now: dt.datetime, arguments: list[str], planned_for: dt.datetime | None
    ) -> None:
        with self._lock:
            if job in self._going:
                return
            self._going[job] = now
        log = structlog.get_logger().bind(job=job)
        try:
            code = self._runner(arguments)
            log.info("job_ended", exit_code=code)
            if code and planned_for is not None:
                self._not_carried_out(job, planned_for, code)
        except AnomalyError as error:
            log.warning("job_failed", error=str(error))
        finally:
            with self._lock:
                del self._going[job]

    def _not_carried_out(self, job: str, planned_for: dt.datetime, code: int) -> None:
        """Close a plan that its process has not taken up; one it has taken up stays as it ended.

        It stays open where this scheduler has stopped and its processes with it: who leads next makes it up.
        """
        if not self.leads:
            return
        why = f"its process ended with exit code {code}"
        if code == BusyError.exit_code:
            why = "another run was going"
        elif code < 0:
            why = f"its process was ended by {signal.Signals(-code).name}"
        now = self._services.clock()
        self._services.store.ledger.missed(job, planned_for, now, note=why)

    def _overdue(self, job: str, now: dt.datetime) -> list[dt.datetime]:
        planned: list[Run] = self._services.store.ledger.runs(job=job, states=("planned",))
        return [run.planned_for for run in planned if run.planned_for and run.planned_for <= now]

    def _plan_next(self, job: str) -> None:
        now = self._services.clock()
        following = self._timetable.next(job, now)
        if following is not None:
            self._services.store.ledger.withdraw(job, now, keep=following)
            self._services.store.ledger.plan(job, following)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fire by the clock until the context ends."""
        clockwork = BackgroundScheduler(timezone=dt.UTC)
        # Late firings still count, several at once count as one; overlap is `fire`'s to judge.
        manners = {"misfire_grace_time": None, "coalesce": True, "max_instances": 2}
        for job in JOBS:
            clockwork.add_job(
                guarded(self.fire), self._timetable.trigger(job), args=[job], id=job, **manners
            )
        renewal = parse_duration(self._services.settings.run.lease) / RENEWALS_PER_LEASE
        every = {"seconds": max(1.0, renewal.total_seconds())}
        lead = guarded(self.lead)
        clockwork.add_job(lead, "interval", **every, id="lead", coalesce=True)
        clockwork.add_job(
            guarded(self.look_after), "interval", **every, id="look after", coalesce=True
        )
        for work in (self.serve_requests, self.acknowledge):
            clockwork.add_job(
                guarded(work), "interval", seconds=REQUEST_SECONDS, id=work.__name__, coalesce=True,
                max_instances=2,
            )  # fmt: skip
        clockwork.add_job(
            guarded(self.tell), "interval", seconds=TELL_SECONDS, id="tell", coalesce=True
        )
        lead()
        clockwork.start()
        self._clockwork = clockwork
        try:
            yield
        finally:
            clockwork.shutdown(wait=False)
            guarded(self.step_down)()


def guarded(work: Callable[..., None]) -> Callable[..., None]:
    """Work whose failure is logged and tried again at its next time, such as without a database."""

    @functools.wraps(work)  # its name stands in what APScheduler logs
    def careful(*arguments: str) -> None:
        try:
            work(*arguments)
        except AnomalyError as error:
            structlog.get_logger().warning("scheduler_failed", work=work.__name__, error=str(error))

    return careful


class Children:
    """Processes of this program, ended with it.

    config: the settings file they get too. grace: seconds after which one that SIGTERM has not
    ended is killed.
    """

    def __init__(self, config: Path | None, grace: float) -> None:
        self._grace = grace
        self._prefix = [sys.executable, "-m", "pipelines"]
        if config is not None:
            self._prefix += ["--config", str(config)]
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, arguments: list[str]) -> int:
        """Run a command line to its end; see `Runner`."""
        with self._lock:
            if self._stopped:
                return BusyError.exit_code
            child = subprocess.Popen([*self._prefix, *arguments])  # noqa: S603  # nosec B603
            self._running.add(child)
        code = child.wait()
        with self._lock:
            self._running.discard(child)
        return code

    def stop(self) -> None:
        """End them all; an interrupted month goes on where it stopped."""
        with self._lock:
            self._stopped = True
            children = list(self._running)
        for child in children:
            child.terminate()
        until = time.monotonic() + self._grace
        for child in children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def run_scheduler(services: Services, config: Path | None) -> None:
    """Schedule until SIGTERM or Ctrl-C."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with configured(services, config) as configuration:
        children = Children(configuration.copy, grace_of(services))
        scheduler = Scheduler(services, children.run)
        configuration.adopted.append(scheduler.adopt)
        with scheduler.running():
            structlog.get_logger().info("scheduler_started")
            ended.wait()
        children.stop()


def grace_of(services: Services) -> float:
    """Seconds that work may take to unwind after SIGTERM."""
    return parse_duration(services.settings.run.stop).total_seconds()


def do_job(services: Services, job: str, planned_for: dt.datetime | None) -> Iterator[str]:
    """Do one scheduled job now, and say what it did.

    Raises: what the job raises; BusyError if another process works on this database.
    """
    yield from {"ingest": do_ingest, "train": do_train, "score": do_score}[job](
        services, planned_for
    )


def do_ingest(services: Services, planned_for: dt.datetime | None) -> Iterator[str]:
    """Read [source]."""
    with exclusive(services):
        done = ingest_source(services, planned_for)
        if done is None:
            yield _idle(services, "ingest", planned_for, "no [source] is configured")
        else:
            yield f"{done.source}: {done.tally.read} rows read, {done.inserted} new"


def do_train(services: Services, planned_for: dt.datetime | None) -> Iterator[str]:
    """Train a model for the month that has begun, if one is due."""
    with exclusive(services):
        month = month_of(services.clock(), services.timezone)
        champion = services.store.models.champion(
            month.start(services.timezone), services.configuration
        )
        if champion is not None and not due(services, champion, month):
            yield _idle(services, "train", planned_for, f"model {champion.version} is young enough")
        elif not can_train(services.settings):
            yield _idle(services, "train", planned_for, NO_TRAINING)
        else:
            yield f"model {train_and_register(services, month, planned_for).version} trained"


def do_score(services: Services, planned_for: dt.datetime | None) -> Iterator[str]:
    """Take in late rows, score the month so far, and close months whose lateness has passed.

    A month that cannot be scored keeps no other back. If its error is one that nobody foresaw, the
    run has failed, when all else is done.
    """
    notes = []
    failures: list[Exception] = []
    with ExitStack() as work:
        with exclusive(services) as holding:
            # Entered only now: whoever finds another at work was missed, and has not failed.
            run = _enter(services, "score", planned_for)
            work.enter_context(failing(services, run))
            for outcome in take_in(services, holding):
                notes.append(f"{outcome.month} {outcome.note}")
                yield notes[-1]
        for month in months_to_score(services):
            try:
                outcome = run_month(services, month)
                notes.append(f"{month} {outcome.state}: {len(outcome.flags)} flags")
            except (BusyError, SourceError):  # which no other month would escape
                raise
            except AnomalyError as error:
                notes.append(f"{month} not scored: {error}")
            except Exception as error:  # noqa: BLE001  (raised when the others are done)
                failures.append(error)
                notes.append(f"{month} failed: {type(error).__name__}: {error}")
            yield notes[-1]
        with exclusive(services) as holding:
            for gone in delete_due(services, holding):
                notes.append(f"{gone.rows} {gone.what} before {gone.since} deleted")
                yield notes[-1]
        if not failures:
            services.store.ledger.finish(run, "complete", services.clock(), note="; ".join(notes))
        tell_carefully(services)
        if failures:
            raise failures[0]


def months_to_score(services: Services) -> list[Month]:
    """The month that goes on, the one before it, and any begun one, unless complete."""
    current = month_of(services.clock(), services.timezone)
    states = {
        Month.parse(run.month): run.state
        for run in services.store.ledger.month_states()
        if run.month is not None
    }
    candidates = {current, current.previous(), *states}
    return sorted(month for month in candidates if states.get(month) != "complete")


def _idle(services: Services, job: str, planned_for: dt.datetime | None, why: str) -> str:
    """Write down a run that had nothing to do."""
    run = _enter(services, job, planned_for)
    services.store.ledger.finish(run, "complete", services.clock(), note=why)
    return f"{job}: {why}"


def _enter(services: Services, job: str, planned_for: dt.datetime | None) -> Run:
    return services.store.ledger.start(
        job,
        configuration=services.configuration,
        code_version=services.code_version,
        now=services.clock(),
        holder=services.holder,
        planned_for=planned_for,
    )
