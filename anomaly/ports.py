"""What the page and the metrics ask of a store, without knowing which store it is.

Rows are described by the attributes that are read; any object that has them will do. Times are
aware datetimes in UTC. Every method raises SourceError where the database cannot be read.
"""

# ruff: noqa: D102  (attributes are explained by the docstring of their class)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from anomaly.feedback import Label, Remark, Suppression, Terms
    from anomaly.records import Band, Flag, UserMonth
    from anomaly.roles import Role


# What can be asked of the scheduler.
RUN, RESCORE, PAUSE, RESUME, CANCEL = "month", "rescore", "pause", "resume", "cancel"
WORK = (RUN, RESCORE)
PAUSES = (PAUSE, RESUME)


@dataclass(frozen=True, slots=True)
class Condition:
    """How one thing that the service leans on is: ok, warning or failed, and why."""

    name: str
    state: Literal["ok", "warning", "failed"]
    reason: str


# Columns that lists may be sorted by, and what they hold.
SortKind = Literal["number", "time", "text"]
FLAG_SORTS: Mapping[str, SortKind] = {
    "score": "number", "start": "time", "end": "time", "user_id": "text", "kind": "text",
    "metrics": "text", "p_value": "number",
}  # fmt: skip
USER_SORTS: Mapping[str, SortKind] = {
    "rank": "number", "score": "number", "risk": "number", "flags": "number",
    "confidence": "number", "user_id": "text", "cohort": "text",
}  # fmt: skip
PUBLISHED = ("complete", "provisional")  # run states whose results analysts see
DATABASE_UP = "anomaly_database_up"  # the metric that says whether the rest could be read
UNKNOWN = -1.0  # what is unknown of a user's month is sorted as this


@dataclass(frozen=True, slots=True)
class FlagFilter:
    """Which flags to read; None does not filter. `metric` matches any metric of a flag; `label` the
    last verdict; `suppressed` whether a suppression quiets it. sort: one of FLAG_SORTS, `-` before it for
    the highest first; flag_id among equal ones. after: only what comes behind the flag with this value of
    the column and this flag_id.
    """

    month: str | None = None
    user: str | None = None
    metric: str | None = None
    severity: str | None = None
    status: str | None = None
    kind: str | None = None
    label: str | None = None
    assignee: str | None = None
    suppressed: bool | None = None
    limit: int | None = None
    offset: int = 0
    after: tuple[Any, ...] | None = None
    sort: str = "-score"


class FlagRow(Protocol):
    """A visible flag and what has been said of it since."""

    @property
    def flag(self) -> Flag: ...
    @property
    def month(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def assignee(self) -> str | None: ...
    @property
    def suppressed_by(self) -> int | None: ...
    @property
    def run_id(self) -> int: ...
    @property
    def run_state(self) -> str: ...
    @property
    def model_version(self) -> str | None: ...


class SaidRow(Protocol):
    """One thing that was said of a flag."""

    @property
    def verdict(self) -> str | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def assignee(self) -> str | None: ...
    @property
    def note(self) -> str: ...
    @property
    def author(self) -> str: ...
    @property
    def given_at(self) -> dt.datetime: ...


class ConsequenceRow(Protocol):
    """What followed from a verdict: a suppression, more flags quieted, a baseline afresh."""

    @property
    def flag_id(self) -> str: ...
    @property
    def verdict(self) -> str: ...
    @property
    def suppression(self) -> int | None: ...
    @property
    def quieted(self) -> int: ...
    @property
    def baseline(self) -> dt.datetime | None: ...


class SuppressionRow(Protocol):
    """A suppression that was entered, and how many visible flags it quiets."""

    @property
    def id(self) -> int: ...
    @property
    def suppression(self) -> Suppression: ...
    @property
    def created_at(self) -> dt.datetime: ...
    @property
    def revoked_at(self) -> dt.datetime | None: ...
    @property
    def revoked_by(self) -> str | None: ...
    @property
    def quiets(self) -> int: ...


class CohortRow(Protocol):
    """A peer group of a month: how many are in it, and why most of them are."""

    @property
    def users(self) -> int: ...
    @property
    def why(self) -> str: ...


class UserMonthRow(Protocol):
    """A user's month and its place among all users of that month; rank is None if not scored."""

    @property
    def month(self) -> str: ...
    @property
    def rank(self) -> int | None: ...
    @property
    def user_month(self) -> UserMonth: ...


class RunRow(Protocol):
    """One run of the ledger. rows_rejected and users_skipped count by reason."""

    @property
    def id(self) -> int: ...
    @property
    def job(self) -> str: ...
    @property
    def month(self) -> str | None: ...
    @property
    def state(self) -> str: ...
    @property
    def planned_for(self) -> dt.datetime | None: ...
    @property
    def started_at(self) -> dt.datetime | None: ...
    @property
    def finished_at(self) -> dt.datetime | None: ...
    @property
    def rows_read(self) -> int: ...
    @property
    def rows_rejected(self) -> Mapping[str, int]: ...
    @property
    def users_scored(self) -> int: ...
    @property
    def users_skipped(self) -> Mapping[str, int]: ...
    @property
    def flags(self) -> int: ...
    @property
    def watermark(self) -> dt.datetime | None: ...
    @property
    def heartbeat_at(self) -> dt.datetime | None: ...
    @property
    def progress_at(self) -> dt.datetime | None: ...
    @property
    def holder(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def model_version(self) -> str | None: ...
    @property
    def configuration(self) -> str: ...
    @property
    def code_version(self) -> str: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def note(self) -> str | None: ...


class StageRow(Protocol):
    """One stage of a run. seconds, rows, users, skipped: of all its parts; memory: the most, bytes."""

    @property
    def run_id(self) -> int: ...
    @property
    def stage(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def users(self) -> int: ...
    @property
    def memory(self) -> int: ...
    @property
    def started_at(self) -> dt.datetime | None: ...
    @property
    def finished_at(self) -> dt.datetime | None: ...
    @property
    def skipped(self) -> Mapping[str, int]: ...


class RequestRow(Protocol):
    """What someone asked of the scheduler."""

    @property
    def job(self) -> str: ...
    @property
    def month(self) -> str | None: ...
    @property
    def author(self) -> str: ...
    @property
    def asked_at(self) -> dt.datetime: ...
    @property
    def taken_at(self) -> dt.datetime | None: ...
    @property
    def finished_at(self) -> dt.datetime | None: ...
    @property
    def run_id(self) -> int | None: ...
    @property
    def note(self) -> str | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def target(self) -> int | None: ...


class DurationRow(Protocol):
    """How long one stage of one job took, over all runs that ended.

    counts: for each bound asked for, the stages that took no longer. count: all of them; seconds:
    their sum. latest: the run that went through it and ended last; latest_seconds: how long it took then.
    """

    @property
    def job(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def counts(self) -> Sequence[int]: ...
    @property
    def count(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def latest(self) -> EndedRow: ...
    @property
    def latest_seconds(self) -> float: ...


class EndedRow(Protocol):
    """A run that ended, and when."""

    @property
    def run_id(self) -> int: ...
    @property
    def at(self) -> dt.datetime: ...


class ModelRow(Protocol):
    """A model of the registry."""

    @property
    def version(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def trained_to(self) -> dt.datetime: ...
    @property
    def validation_loss(self) -> float | None: ...
    @property
    def calibration_error(self) -> float | None: ...
    @property
    def twin_loss(self) -> float | None: ...
    @property
    def registered_at(self) -> dt.datetime: ...
    @property
    def note(self) -> str | None: ...
    @property
    def cell(self) -> str | None: ...
    @property
    def twin(self) -> str | None: ...


class TotalsRow(Protocol):
    """Sums over every run that ended, superseded or not: they never fall."""

    @property
    def runs(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def rows_read(self) -> Mapping[str, int]: ...
    @property
    def rows_rejected(self) -> Mapping[str, int]: ...
    @property
    def users_scored(self) -> int: ...
    @property
    def users_skipped(self) -> Mapping[str, int]: ...
    @property
    def flags(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def missed(self) -> Mapping[str, int]: ...


class FlagReader(Protocol):
    """What analysts see: flags of the current runs, and every user's month."""

    def select(self, filters: FlagFilter) -> Sequence[FlagRow]:
        """The flags that pass, by falling score, then flag_id."""
        ...

    def arrow(self, filters: FlagFilter) -> pa.Table:
        """The same as a table of the export's columns."""
        ...

    def get(self, flag_id: str) -> FlagRow:
        """One flag. Raises: UsageError if there is none of this id."""
        ...

    def series(self, flag_id: str) -> Band | None:
        """The series stored with a flag, or None where none was."""
        ...

    def severities(self, filters: FlagFilter) -> Mapping[str, int]:
        """How many of the flags that pass have each severity, whatever the limit."""
        ...

    def user_months(
        self,
        month: str,
        user: str | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        cohort: str | None = None,
        sort: str = "rank",
        after: tuple[Any, ...] | None = None,
    ) -> Sequence[UserMonthRow]:
        """Users of a month, by one of USER_SORTS and user_id, then those not scored.

        after: only what comes behind the row with these: 1 where not scored else 0, the column's
        value, user_id.
        """
        ...

    def count_user_months(
        self, month: str, user: str | None = None, cohort: str | None = None
    ) -> int:
        """How many users a month has, scored or not."""
        ...

    def cohorts(self, month: str) -> Mapping[str, CohortRow]:
        """The peer groups of a month's scored users, by name."""
        ...

    def neighbours(self, row: FlagRow) -> tuple[str | None, str | None]:
        """The flag_ids just before and after a flag in its month's order, None at the ends."""
        ...


class FeedbackBook(Protocol):
    """What is said of flags."""

    def label(
        self, labels: Sequence[Label], terms: Terms, now: dt.datetime
    ) -> Sequence[ConsequenceRow]:
        """Give verdicts, all or none."""
        ...

    def remark(self, remark: Remark, now: dt.datetime) -> None:
        """Comment on a flag, set its status, or hand it to somebody."""
        ...

    def said(self, flag_id: str) -> Sequence[SaidRow]:
        """What was said of a flag, the oldest first."""
        ...

    def precision(self) -> float | None:
        """The share of judged flags that told of a real change, or None where none was judged."""
        ...


class SuppressionBook(Protocol):
    """What asks for more evidence."""

    def add(self, suppression: Suppression, now: dt.datetime) -> tuple[int, int]:
        """Enter one: its number, and how many flags it quiets."""
        ...

    def revoke(self, number: int, author: str, now: dt.datetime) -> int:
        """Revoke one: how many flags are quieted no longer."""
        ...

    def list(self, *, revoked: bool = ...) -> Sequence[SuppressionRow]:
        """Those that stand, the newest first."""
        ...


class LedgerReader(Protocol):
    """What ran, and how it ended."""

    def month_states(self, limit: int | None = ...) -> Sequence[RunRow]:
        """The run that speaks for each month, the newest month first."""
        ...

    def runs(
        self,
        job: str | None = None,
        month: str | None = None,
        states: Sequence[str] | None = None,
        limit: int | None = None,
        before: int | None = None,
    ) -> Sequence[RunRow]:
        """Runs, the newest first; only those before a number."""
        ...

    def last_successes(self) -> Sequence[RunRow]:
        """The newest complete or provisional run of each job."""
        ...

    def get(self, run_id: int) -> RunRow:
        """A run by its number. Raises: UsageError if there is none."""
        ...

    def stages(self, run_id: int | None = None) -> Sequence[StageRow]:
        """The stages of a run, or of all."""
        ...

    def totals(self) -> TotalsRow:
        """Sums over all runs that ended."""
        ...

    def flags_per_thousand_user_months(self) -> float | None:
        """Flags of the newest complete month per thousand users scored in it."""
        ...


class RequestReader(Protocol):
    """What was asked of the scheduler."""

    def latest(self, limit: int) -> Sequence[RequestRow]:
        """Requests, the newest first."""
        ...

    def waiting(self) -> Sequence[RequestRow]:
        """Those nobody has taken up, the oldest first."""
        ...

    def paused(self) -> RequestRow | None:
        """The pause that holds, or None."""
        ...


class ChangeRow(Protocol):
    """A flag that scoring a closed month again made different: came, went or changed.

    flag_id to metrics: as it is, or as it was before it went; earlier_…: as it was; None of one that
    came.
    """

    @property
    def run_id(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def flag_id(self) -> str: ...
    @property
    def month(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def start(self) -> dt.datetime: ...
    @property
    def end(self) -> dt.datetime: ...
    @property
    def severity(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def metrics(self) -> str: ...
    @property
    def earlier_run(self) -> int: ...
    @property
    def earlier_flag_id(self) -> str | None: ...
    @property
    def earlier_start(self) -> dt.datetime | None: ...
    @property
    def earlier_end(self) -> dt.datetime | None: ...
    @property
    def earlier_severity(self) -> str | None: ...
    @property
    def earlier_score(self) -> float | None: ...


class LateReader(Protocol):
    """Rows and events that came after their month was closed."""

    def waiting(self) -> Mapping[str, int]:
        """Of how many users something came late that each closed month has not taken in."""
        ...


class EventRow(Protocol):
    """An event of the calendar."""

    @property
    def kind(self) -> str: ...
    @property
    def start(self) -> dt.datetime: ...
    @property
    def end(self) -> dt.datetime: ...
    @property
    def name(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def cohort(self) -> str | None: ...
    @property
    def whom(self) -> str: ...


class EventReader(Protocol):
    """The calendar."""

    def read(
        self, start: dt.datetime | None = None, end: dt.datetime | None = None
    ) -> Sequence[EventRow]:
        """Events that share time with [start, end), by time."""
        ...


class ChangeReader(Protocol):
    """What scoring closed months again made different."""

    def list(self, month: str | None = None, run_id: int | None = None) -> Sequence[ChangeRow]:
        """The newest run first, the highest score first within it."""
        ...


class Operations(Protocol):
    """What the operator's page asks of the service around it."""

    def now(self) -> dt.datetime:
        """The time."""
        ...

    def conditions(self) -> Sequence[Condition]:
        """How each thing is that the service leans on."""
        ...

    def source(self) -> str | None:
        """The source that the schedule reads, as the ledger calls it."""
        ...

    def ask(
        self, author: str, action: str, month: str | None, target: int | None, reason: str
    ) -> None:
        """Ask the scheduler for something, with a row in the audit."""
        ...


class UndeliveredRow(Protocol):
    """A message that failed, when and why."""

    @property
    def at(self) -> dt.datetime: ...
    @property
    def note(self) -> str: ...


class FigureReader(Protocol):
    """Sums that the database works out."""

    def durations(self, bounds: Sequence[float]) -> Sequence[DurationRow]:
        """How long stages took, counted into buckets with these upper bounds in seconds."""
        ...

    def watermarks(self) -> Mapping[str, dt.datetime]:
        """How far each source has been read."""
        ...

    def last_source(self) -> str | None:
        """The source that was read last; None if none was."""
        ...

    def notifications(self) -> Mapping[tuple[str, str], int]:
        """Messages sent, by channel and outcome."""
        ...

    def last_notifications(self) -> Mapping[tuple[str, str], dt.datetime]:
        """When the last message ended, by channel and outcome."""
        ...

    def undelivered(self, since: dt.datetime) -> Mapping[str, UndeliveredRow]:
        """Channels whose last message failed, since then."""
        ...

    def latest_ends(self) -> Mapping[tuple[str, str], EndedRow]:
        """The run that ended last, by job and outcome."""
        ...

    def last_signs(self) -> Mapping[str, dt.datetime]:
        """The last sign of life of runs that are going on; the oldest of each job."""
        ...

    def last_progress(self) -> Mapping[str, dt.datetime]:
        """When the work of runs that are going on last got on; the oldest of each job."""
        ...

    def leader_until(self) -> dt.datetime | None:
        """When the scheduler's lease runs out unless renewed; None if none ever led."""
        ...

    def judged(self) -> Mapping[str, int]:
        """How many flags were judged, by the last verdict on each."""
        ...


class ModelReader(Protocol):
    """The registry of models."""

    def champion(self) -> ModelRow | None:
        """The model that the next run scores with."""
        ...

    def list(self) -> Sequence[ModelRow]:
        """All of them, the latest trained first."""
        ...


class ObservationReader(Protocol):
    """What was observed."""

    def read(
        self,
        start: dt.datetime | None = ...,
        end: dt.datetime | None = ...,
        users: Sequence[str] | None = ...,
    ) -> Iterator[pa.Table]:
        """Rows of [start, end): user_id, metric, observed_at, value."""
        ...


class AccessToken(Protocol):
    """A token or a log-on; its secret is known to its holder alone."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def kind(self) -> str: ...
    @property
    def expires_at(self) -> dt.datetime: ...


class TokenKeeper(Protocol):
    """Who has been let in, and for how long."""

    def find(self, secret: str, kind: str, now: dt.datetime) -> AccessToken | None:
        """The token or session of this secret, if it is neither expired nor revoked."""
        ...

    def open_session(
        self,
        name: str,
        role: Role,
        author: str,
        now: dt.datetime,
        expires_at: dt.datetime,
        parent: int | None = None,
    ) -> str:
        """Let somebody in; gives the secret of the session. It ends with its parent token."""
        ...

    def revoke(self, token_id: int, now: dt.datetime) -> bool:
        """End a token, or a session, and the sessions it opened. False if it was not valid."""
        ...

    def ever_made(self) -> bool:
        """Whether a token was ever made, valid or not."""
        ...


class Written(Protocol):
    """What a write of observations did, in rows."""

    @property
    def inserted(self) -> int: ...
    @property
    def unchanged(self) -> int: ...
    @property
    def corrected(self) -> int: ...


class Observations(ObservationReader, Protocol):
    """What was observed, wherever it lies: in the database, or in files that are read in place."""

    def write(self, rows: pa.Table, source: str) -> Written:
        """Add rows in one transaction. Raises: DataError, or UsageError where files are read in place."""
        ...

    def users(self) -> list[str]:
        """Everyone with a row, in byte order."""
        ...

    def metrics(self, before: dt.datetime | None = None) -> list[str]:
        """The names of metrics, in byte order; `before`: only those that had a row by then."""
        ...

    def first_seen(self, users: Sequence[str] | None = None) -> dict[str, dt.datetime]:
        """The time of each user's first row, aware UTC; users without rows are left out."""
        ...

    def last_seen(
        self, users: Sequence[str] | None = None, before: dt.datetime | None = None
    ) -> dict[str, dt.datetime]:
        """The time of each user's last row, or of the last one before an instant, aware UTC."""
        ...

    def span(self) -> tuple[dt.datetime, dt.datetime] | None:
        """The times of the first and the last row, aware UTC; None without rows."""
        ...

    def count(self, start: dt.datetime | None = None, end: dt.datetime | None = None) -> int:
        """How many rows [start, end) holds."""
        ...


class PlacedObservations(Observations, Protocol):
    """Observations in files that are read where they lie."""

    def fits(self, shard_users: int) -> bool:
        """Whether they can be: all files are known, and shards of so many users need not read all."""
        ...


class WebStore(Protocol):
    """What the pages and the API read, and who may."""

    @property
    def tokens(self) -> TokenKeeper: ...

    @property
    def observations(self) -> ObservationReader: ...

    @property
    def flags(self) -> FlagReader: ...
    @property
    def feedback(self) -> FeedbackBook: ...
    @property
    def suppressions(self) -> SuppressionBook: ...
    @property
    def ledger(self) -> LedgerReader: ...
    @property
    def models(self) -> ModelReader: ...
    @property
    def figures(self) -> FigureReader: ...
    @property
    def requests(self) -> RequestReader: ...
    @property
    def late(self) -> LateReader: ...
    @property
    def changes(self) -> ChangeReader: ...
    @property
    def events(self) -> EventReader: ...

    def check(self) -> None:
        """Raises: SourceError if the database is away or has another version's schema."""
        ...


class MetricStore(Protocol):
    """What the metrics are read from."""

    @property
    def feedback(self) -> FeedbackBook: ...
    @property
    def ledger(self) -> LedgerReader: ...
    @property
    def models(self) -> ModelReader: ...
    @property
    def figures(self) -> FigureReader: ...
