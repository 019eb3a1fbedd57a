"""What the operator's page shows, worked out from rows: no HTML, no database, no clock."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.months import Month, month_of, months_between
from anomaly.ports import PUBLISHED
from anomaly.web import words
from anomaly.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomaly.ports import Condition, ModelRow, RequestRow, RunRow, StageRow, UndeliveredRow

MONTHS = 13  # as the metrics show
SILENT = dt.timedelta(minutes=2)  # a heartbeat older than this is told
STANDING = dt.timedelta(minutes=30)  # so is work that has not got on for longer
STALE = dt.timedelta(days=2)  # a source whose newest row is older than this is told
REJECTED = 0.02  # so is a larger share of the rows read last that was set aside
UNDELIVERED = dt.timedelta(hours=1)  # and a message that failed since, none having arrived after it
STATES = {
    "complete": "complete",
    "provisional": "provisional",
    "running": "running",
    "planned": "planned",
    "failed": "failed",
    "missed": "missed",
    "superseded": "superseded",
    "late": "overdue",
    "none": "not run",
}
JOBS = {
    "ingest": "reads the source",
    "train": "trains a model if one is due",
    "score": "scores the month so far and closes months that are over",
}
LATE = (
    "rows or events that came late, of {users}, wait. The next scoring takes them in, unless the settings "
    "have changed since the month was scored: then score it again below."
)
UNDELIVERED_NOTE = "the last one failed at {when}: {why}. It is tried again; anomaly notify test says whether it helps."
ASKED = {
    "month": "run",
    "rescore": "score again",
    "pause": "pause the schedule",
    "resume": "resume the schedule",
    "cancel": "cancel",
}


@dataclass(frozen=True, slots=True)
class MonthCell:
    """One month of the strip. state: a run state, late or none."""

    month: str
    state: str
    word: str
    detail: str
    run: RunRow | None


@dataclass(frozen=True, slots=True)
class Going:
    """A run that goes on. share: of its users scored, 0 to 1, where that is known."""

    run: RunRow
    stage: str
    for_seconds: float | None
    share: float | None
    progress: str
    silent: str | None


@dataclass(frozen=True, slots=True)
class JobLine:
    """One job of the schedule. missed: firings missed within the last year's runs."""

    job: str
    does: str
    following: dt.datetime | None
    last: RunRow | None
    missed: int


@dataclass(frozen=True, slots=True)
class SourceLine:
    """How fresh one source is."""

    name: str
    newest: dt.datetime
    age: str
    stale: bool
    last: RunRow | None


@dataclass(frozen=True, slots=True)
class ModelLine:
    """One model. age: since its training data ended."""

    row: ModelRow
    age: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: its place and height in percent of the chart, and what it says.

    top: from the chart's upper edge. A figure below zero hangs from the line of zero.
    """

    label: str
    value: str
    left: float
    width: float
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one figure over time. zero: where its line is, in percent from the upper edge."""

    title: str
    note: str
    bars: Sequence[Bar]
    zero: float


@dataclass(frozen=True, slots=True)
class Board:
    """All of the page. headline: the state of the newest month that should be complete."""

    headline: str
    good: bool
    attention: Sequence[tuple[str, str]]
    months: Sequence[MonthCell]
    going: Sequence[Going]
    jobs: Sequence[JobLine]
    sources: Sequence[SourceLine]
    models: Sequence[ModelLine]
    charts: Sequence[Chart]
    runs: Sequence[RunRow]
    requests: Sequence[RequestRow]
    paused: RequestRow | None
    asked: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of the store for one page. configured: the source that the schedule reads. late:
    users of whom each closed month has not taken in what came late.
    """

    now: dt.datetime
    timezone: str
    lateness: dt.timedelta
    month_states: Sequence[RunRow]
    runs: Sequence[RunRow]
    stages: Mapping[int, Sequence[StageRow]]
    models: Sequence[ModelRow]
    watermarks: Mapping[str, dt.datetime]
    undelivered: Mapping[str, UndeliveredRow]
    requests: Sequence[RequestRow]
    waiting: Sequence[RequestRow]
    paused: RequestRow | None
    conditions: Sequence[Condition]
    configured: str | None
    late: Mapping[str, int]


def board(facts: Facts) -> Board:
    """Lay out the page."""
    months = strip(facts)
    going = [_going(run, facts) for run in facts.runs if run.state == "running"]
    jobs = [_job(job, facts) for job in JOBS]
    sources = [
        _source(name, newest, facts)
        for name, newest in sorted(facts.watermarks.items(), key=lambda one: one[1], reverse=True)
        if name != "observations"  # what was scored of them ends with the month
    ]
    models = [ModelLine(row, _age(facts.now - row.trained_to)) for row in facts.models]
    headline, good = _headline(months, facts)
    return Board(
        headline,
        good,
        _attention(facts, months, going, sources),
        months,
        going,
        jobs,
        sources,
        models,
        _charts(facts, months),
        [run for run in facts.runs if run.state != "planned"],
        facts.requests,
        facts.paused,
        ASKED,
    )


def strip(facts: Facts) -> list[MonthCell]:
    """The last months, the oldest first, from the first that anything is known of."""
    by_month = {run.month: run for run in facts.month_states if run.month is not None}
    current = month_of(facts.now, facts.timezone)
    known = [Month.parse(month) for month in by_month]
    # At least the month that ended last: that nobody ran it is told, as the alerts do.
    first = max(min([*known, current.previous()]), current.plus(1 - MONTHS))
    return [
        _cell(str(month), by_month.get(str(month)), month, facts)
        for month in months_between(first, max([*known, current]))
    ]


def _cell(name: str, run: RunRow | None, month: Month, facts: Facts) -> MonthCell:
    closing = month.end(facts.timezone) + facts.lateness
    state = "none" if run is None else run.state
    overdue = facts.now > closing + dt.timedelta(days=1)
    if overdue and state in {"provisional", "planned", "none"}:
        state = "late"
    return MonthCell(name, state, STATES[state], _detail(state, run, closing, facts.timezone), run)


def _detail(state: str, run: RunRow | None, closing: dt.datetime, timezone: str) -> str:
    due = words.moment(closing, timezone)
    if run is None:
        return f"Nobody ran it; it is to be complete from {due} on."
    if state == "complete" and run.finished_at:
        return f"Complete since {words.moment(run.finished_at, timezone)}."
    if state == "provisional":
        return f"Scored so far; to be complete from {due} on."
    if state == "late":
        return f"It should be complete since {due}."
    if state == "planned":
        return f"To be complete from {due} on."
    if state == "running":
        return "It is being scored now."
    note = (run.note or "no reason is known").rstrip(".")
    return f"{STATES[state].capitalize()}: {note}."


def _headline(months: Sequence[MonthCell], facts: Facts) -> tuple[str, bool]:
    """The newest month whose closing time has passed: did it run, once, completely?"""
    over = [
        cell
        for cell in months
        if Month.parse(cell.month).end(facts.timezone) + facts.lateness <= facts.now
    ]
    if not over:
        return "No month is due yet.", True
    last = over[-1]
    name, run = words.month_name(last.month), last.run
    if last.state == "complete" and run is not None:
        everyone = run.users_scored + sum(run.users_skipped.values())
        scored = f"{run.users_scored:,} of {counted(everyone, 'user')} scored"
        return f"{name} ran and is complete: {scored}, {counted(run.flags, 'flag')}.", True
    return f"{name} is not complete. {last.detail}", False


def _attention(
    facts: Facts, months: Sequence[MonthCell], going: Sequence[Going], sources: Sequence[SourceLine]
) -> list[tuple[str, str]]:
    """What needs a person: what it is, and what to do."""
    found = [
        (each.name, each.reason) for each in facts.conditions if each.state in {"warning", "failed"}
    ]
    if facts.paused is not None:
        since = words.moment(facts.paused.asked_at, facts.timezone)
        why = f": {facts.paused.reason}" if facts.paused.reason else ""
        found.append(
            ("schedule", f"paused by {facts.paused.author} since {since}{why}. Resume it below.")
        )
    found += [
        (words.month_name(cell.month), f"{cell.detail} Run it below.")
        for cell in months
        if cell.state in {"failed", "missed", "late"}
    ]
    found += [
        (words.month_name(month), LATE.format(users=counted(users, "user")))
        for month, users in facts.late.items()
    ]
    for job in JOBS:
        last = next((run for run in facts.runs if run.job == job and run.state != "planned"), None)
        if last is not None and last.state in {"failed", "missed"}:
            note = (last.note or "it did not run").rstrip(".")
            found.append((f"job {job}", f"{last.state}: {note}."))
    found += [(f"run {each.run.id}", each.silent) for each in going if each.silent]
    found += [
        (
            f"source {each.name}",
            f"its newest row is {each.age} old. Look at the system that writes it.",
        )
        for each in sources
        if each.stale
    ]
    found += _set_aside(facts)
    found += [
        (
            f"messages to {channel}",
            UNDELIVERED_NOTE.format(
                when=words.moment(failed.at, facts.timezone), why=failed.note.rstrip(".")
            ),
        )
        for channel, failed in facts.undelivered.items()
    ]
    for request in facts.waiting:
        if facts.now - request.asked_at > SILENT:
            since = words.moment(request.asked_at, facts.timezone)
            found.append(("request", f"{ASKED.get(request.job, request.job)} waits since {since}."))
    return found


def _set_aside(facts: Facts) -> list[tuple[str, str]]:
    """Sources of whose last reading too many rows could not be used; a refused one is a job that failed."""
    told, seen = [], set()
    for run in facts.runs:  # the newest first
        if run.source is None or run.source in seen or not run.rows_read or run.finished_at is None:
            continue
        seen.add(run.source)
        counts = Counter(run.rows_rejected)
        if run.state != "failed" and counts.total() > REJECTED * run.rows_read:
            why = ", ".join(
                f"{count:,} {reason.replace('_', ' ')}" for reason, count in counts.most_common()
            )
            rows = f"{counts.total():,} of the {counted(run.rows_read, 'row')} read last were set aside"
            told.append((f"source {run.source}", f"{rows} ({why}). See the table rejects."))
    return told


def _going(run: RunRow, facts: Facts) -> Going:
    stages = facts.stages.get(run.id, ())
    open_now = [stage for stage in stages if stage.started_at and stage.finished_at is None]
    current = max(open_now, key=lambda stage: stage.started_at or facts.now, default=None)
    planned = sum(stage.users for stage in stages if stage.stage == "plan")
    scored = sum(stage.users for stage in stages if stage.stage == "score")
    return Going(
        run,
        current.stage if current else "between stages",
        (facts.now - current.started_at).total_seconds()
        if current and current.started_at
        else None,
        scored / planned if planned else None,
        f"{scored:,} of {counted(planned, 'user')} scored" if planned else "",
        _stuck(run, facts.now),
    )


def _stuck(run: RunRow, now: dt.datetime) -> str | None:
    """Why a run that goes on seems stuck: its process is silent, or lives and does not get on."""
    began = run.started_at or now
    silence = now - (run.heartbeat_at or began)
    if silence > SILENT:
        return f"no sign of life for {_age(silence)}; the scheduler takes it up or closes it"
    standing = now - (run.progress_at or began)
    if standing > STANDING:
        return (
            f"its process lives, but its work has not got on for {_age(standing)}. Look where it waits, "
            "or cancel it"
        )
    return None


def _job(job: str, facts: Facts) -> JobLine:
    own = [run for run in facts.runs if run.job == job]
    ahead = [run.planned_for for run in own if run.state == "planned" and run.planned_for]
    return JobLine(
        job,
        JOBS[job],
        min((when for when in ahead if when > facts.now), default=None),
        next((run for run in own if run.state != "planned"), None),
        sum(run.state == "missed" for run in own),
    )


def _source(name: str, newest: dt.datetime, facts: Facts) -> SourceLine:
    age = facts.now - newest
    last = next((run for run in facts.runs if run.source == name and run.job == "ingest"), None)
    # A file that was imported once is as old as it is; only what the schedule reads can go stale.
    return SourceLine(name, newest, _age(age), name == facts.configured and age > STALE, last)


def _charts(facts: Facts, months: Sequence[MonthCell]) -> list[Chart]:
    rates = [
        (words.month_name(cell.month)[:3], 1_000 * cell.run.flags / cell.run.users_scored)
        for cell in months
        if cell.run is not None and cell.run.state in PUBLISHED and cell.run.users_scored
    ]
    trained = sorted(
        (row for row in facts.models if row.state in {"champion", "retired"}),
        key=lambda row: (row.trained_to, row.registered_at),
    )[-MONTHS:]
    charts = [
        ("Flags per 1,000 users", "by month; a jump or a fall to zero is worth a look", rates),
        (
            "Validation loss",
            "of models in service, lower is better; by the end of their training data",
            _figures(trained, "validation_loss"),
        ),
        (
            "Calibration error",
            "of models in service; 0 is none, 0.18 a factor of 1.5",
            _figures(trained, "calibration_error"),
        ),
    ]
    return [chart_of(title, note, points) for title, note, points in charts if points]


def _figures(models: Iterable[ModelRow], name: str) -> list[tuple[str, float]]:
    pairs = ((f"{row.trained_to:%b %y}", getattr(row, name)) for row in models)
    return [(label, value) for label, value in pairs if value is not None]


def chart_of(title: str, note: str, points: Sequence[tuple[str, float]]) -> Chart:
    """Bars from zero up; those of figures below it (a loss in nats) hang from its line."""
    highest = max(0.0, *(value for _, value in points))
    lowest = min(0.0, *(value for _, value in points))
    percent = 100 / ((highest - lowest) or 1.0)
    slot = 100 / max(len(points), 6)
    bars = [
        Bar(
            label, words.number(round(value, 3)), place * slot, slot * 0.7,
            percent * (highest - max(value, 0.0)), percent * abs(value),
        )
        for place, (label, value) in enumerate(points)
    ]  # fmt: skip
    return Chart(title, note, bars, percent * highest)


def skipped_of(run: RunRow) -> list[tuple[str, int]]:
    """Why users were not scored, in words."""
    counts = Counter(run.users_skipped)
    return [(words.SKIPS.get(reason, reason), number) for reason, number in counts.most_common()]


def _age(span: dt.timedelta) -> str:
    return words.length(max(0.0, span.total_seconds()))
