"""What the store hands out: frozen rows. Times are aware datetimes in UTC."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from anomaly.records import FLAG_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.feedback import Suppression
    from anomaly.records import Flag, UserMonth
    from anomaly.refit import Group, Judged
    from anomaly.roles import Role

EXPORT_COLUMNS = (*FLAG_COLUMNS, "month", "status", "label", "assignee", "suppressed_by")


@dataclass(frozen=True, slots=True)
class Written:
    """What a write of observations did, in rows. corrected: known ones that got another value."""

    inserted: int
    unchanged: int
    corrected: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """What is known of a user. timezone: IANA name; country: ISO code; active_to: exclusive."""

    user_id: str
    department: str | None = None
    role: str | None = None
    timezone: str | None = None
    country: str | None = None
    active_from: dt.date | None = None
    active_to: dt.date | None = None


@dataclass(frozen=True, slots=True)
class Cohort:
    """A peer group of a month. why: of most of its members."""

    users: int
    why: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody who was put into another peer group than habits or columns say."""

    user_id: str
    cohort: str
    assigned_at: dt.datetime
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """A calendar event (see `anomaly.calendar.Event`) of a user, a cohort or everyone.

    end: exclusive.
    """

    kind: str
    start: dt.datetime
    end: dt.datetime
    name: str = ""
    user_id: str | None = None
    cohort: str | None = None

    @property
    def in_utc(self) -> EventRow:
        """The same event, its times in UTC, as it comes back from the calendar."""
        return replace(self, start=self.start.astimezone(dt.UTC), end=self.end.astimezone(dt.UTC))

    @property
    def whom(self) -> str:
        """Whom it concerns, in words."""
        if self.user_id is not None:
            return self.user_id
        return "everyone" if self.cohort is None else f"cohort {self.cohort}"


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event of the calendar, and who entered and withdrew it when.

    added_at: None where it was entered before that was written down.
    """

    event_id: str
    event: EventRow
    added_at: dt.datetime | None
    author: str
    withdrawn_at: dt.datetime | None
    withdrawn_by: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job, as the ledger has it.

    month: 2026-10, or None for jobs without one. outcome: the state in which it ended, which a
    later supersession does not change. rows_rejected, users_skipped: counts by reason. flag_kinds:
    counts by "severity/kind". seconds: from start to end. heartbeat_at: its process lived then.
    progress_at: its work got on then; None where it is read as a run that stands.
    """

    id: int
    job: str
    month: str | None
    state: str
    outcome: str | None
    planned_for: dt.datetime | None
    started_at: dt.datetime | None
    heartbeat_at: dt.datetime | None
    finished_at: dt.datetime | None
    holder: str
    source: str | None
    rows_read: int
    rows_rejected: Mapping[str, int]
    users_scored: int
    users_skipped: Mapping[str, int]
    flags: int
    flag_kinds: Mapping[str, int]
    watermark: dt.datetime | None
    model_version: str | None
    configuration: str
    code_version: str
    seconds: float | None
    note: str | None
    progress_at: dt.datetime | None = field(default=None, compare=False)

    @property
    def rejected(self) -> int:
        """Rows set aside, whatever the reason."""
        return sum(self.rows_rejected.values())

    @property
    def skipped(self) -> int:
        """Users not scored, whatever the reason."""
        return sum(self.users_skipped.values())


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one run. seconds: of all its parts, which may have gone on at the same time.

    memory: the most bytes the process held meanwhile. finished_at: None while it goes on. skipped:
    rows or users left out, by reason.
    """

    run_id: int
    job: str
    stage: str
    seconds: float
    rows: int
    users: int
    memory: int
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over every run that ended, superseded or not: they never fall.

    runs: by (job, outcome). flags: by (severity, kind). The others: by source, reason or job.
    """

    runs: dict[tuple[str, str], int] = field(default_factory=dict)
    rows_read: dict[str, int] = field(default_factory=dict)
    rows_rejected: dict[str, int] = field(default_factory=dict)
    users_scored: int = 0
    users_skipped: dict[str, int] = field(default_factory=dict)
    flags: dict[tuple[str, str], int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token:
    """Proof of a lease. Its number grows with each holder, so an old holder's is told apart."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a lease, and until when unless renewed."""

    name: str
    holder: str
    token: Token
    expires_at: dt.datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model in the registry. state: candidate, champion, retired, withdrawn or refused.

    address: where its files lie; sha256: of their manifest. trained_to: exclusive. note: the verdict
    on it. cell: of its network, "none" of a twin that stands alone. families: the likelihood of each
    metric. twin: the version of the twin fitted beside it. trial: what it made of incidents planted
    into history (likelihood, planted, found, flags, users). None of models entered before these were
    kept.
    """

    version: str
    address: str
    sha256: str
    trained_from: dt.datetime
    trained_to: dt.datetime
    validation_loss: float | None
    twin_loss: float | None
    calibration_error: float | None
    users: int
    metrics: tuple[str, ...]
    configuration: str
    state: str
    registered_at: dt.datetime
    promoted_at: dt.datetime | None
    note: str | None
    cell: str | None = None
    families: Mapping[str, str] | None = None
    twin: str | None = None
    trial: Mapping[str, float | None] | None = None


@dataclass(frozen=True, slots=True)
class FlagRow:
    """A visible flag. status: open, acknowledged or closed; label: the last verdict; suppressed_by:
    the number of the suppression that quiets it, None where it has a verdict of its own.
    """

    flag: Flag
    month: str
    status: str
    label: str | None
    run_id: int
    run_state: str
    model_version: str | None
    configuration: str
    assignee: str | None = None
    suppressed_by: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """A flag that scoring a closed month again made different.

    kind: came, went or changed. flag_id to metrics: the flag as it is, or as it was before it went;
    earlier_…: as the run before, earlier_run, had it; None of one that came.
    """

    run_id: int
    flag_id: str
    month: str
    kind: str
    user_id: str
    start: dt.datetime
    end: dt.datetime
    severity: str
    score: float
    metrics: str
    earlier_run: int
    earlier_flag_id: str | None
    earlier_start: dt.datetime | None
    earlier_end: dt.datetime | None
    earlier_severity: str | None
    earlier_score: float | None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """One thing that was said of a flag: a verdict, a status, an assignee ('' nobody), words."""

    id: int
    flag_id: str
    verdict: str | None
    status: str | None
    assignee: str | None
    note: str
    author: str
    given_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Consequence:
    """What followed from a verdict.

    suppression: the number of the one it made. quieted: how many more flags are quieted than before.
    baseline: from when the user's baseline starts afresh.
    """

    flag_id: str
    verdict: str
    suppression: int | None
    quieted: int
    baseline: dt.datetime | None


@dataclass(frozen=True, slots=True)
class JudgedMonths:
    """Months in which flags have verdicts. newest: the last of them, None without any. flags: how many
    each group (leading metric, kind, direction) has in them. user_months: scored in them.
    """

    newest: str | None
    judged: tuple[Judged, ...]
    flags: Mapping[Group, int]
    user_months: int


@dataclass(frozen=True, slots=True)
class SuppressionRow:
    """A suppression that was entered. quiets: visible flags that it quiets now."""

    id: int
    suppression: Suppression
    created_at: dt.datetime
    revoked_at: dt.datetime | None
    revoked_by: str | None
    quiets: int


@dataclass(frozen=True, slots=True)
class UserMonthRow:
    """A visible user's month. rank: 1 is the furthest from normal; None if not scored."""

    month: str
    rank: int | None
    user_month: UserMonth
    run_id: int
    run_state: str


@dataclass(frozen=True, slots=True)
class RejectRow:
    """A row that was set aside."""

    source: str
    reason: str
    location: str
    text: str
    rejected_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Request:
    """What someone asked the scheduler for.

    job: month, rescore, pause, resume or cancel. target: the run to cancel. run_id: the run that
    served it.
    """

    id: int
    job: str
    month: str | None
    author: str
    asked_at: dt.datetime
    taken_at: dt.datetime | None
    holder: str | None
    finished_at: dt.datetime | None
    run_id: int | None
    note: str | None
    reason: str = ""
    target: int | None = None


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, or a session that a log-on opened; the secret itself is kept nowhere.

    author: who made it, or how the log-on was proved. parent: the token that opened a session.
    """

    id: int
    name: str
    kind: str
    role: Role
    author: str
    parent: int | None
    created_at: dt.datetime
    expires_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None

    def state(self, now: dt.datetime) -> str:
        """valid, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if now < self.expires_at else "expired"
