"""The tables and views as SQLAlchemy knows them. They come to be by migrations alone.

A test holds these definitions to what the migrations leave behind, on both databases.
"""

from __future__ import annotations

import sqlalchemy as sa

from anomaly.records import FLAG_COLUMNS
from anomaly.store.columns import (
    LARGEST,
    Bytes,
    Day,
    Flagged,
    Instant,
    Mapping,
    Name,
    Number,
    Whole,
    Words,
)

METADATA = sa.MetaData()
VIEWS = sa.MetaData()

FLAG_NUMBERS = (
    "score",
    "p_value",
    "observed",
    "expected",
    "lower",
    "upper",
    "self_percentile",
    "peer_percentile",
    "all_percentile",
)
USER_MONTH_NUMBERS = (
    "score",
    "p_value",
    "self_percentile",
    "peer_percentile",
    "all_percentile",
    "confidence",
)
USER_MONTH_GUESSES = ("risk", "cohort_distance")  # numbers that some months lack


def _table(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> sa.Table:
    return sa.Table(name, METADATA, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True)


def _run(primary_key: bool = False) -> sa.Column[int]:
    return sa.Column(
        "run_id",
        sa.Integer,
        sa.ForeignKey("runs.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=not primary_key,
    )


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, Name, primary_key=True)


def _words(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, Words, nullable=nullable)


def _instant(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, Instant, nullable=nullable)


def _number(name: str, nullable: bool = False) -> sa.Column[float]:
    return sa.Column(name, Number, nullable=nullable)


def _whole(name: str) -> sa.Column[int]:
    return sa.Column(name, Whole, nullable=False)


def _finite(table: str, *names: str) -> sa.CheckConstraint:
    rule = " AND ".join(f"{name} BETWEEN -{LARGEST} AND {LARGEST}" for name in names)
    return sa.CheckConstraint(rule, name=f"{table}_finite")


# --- what is known

observations = _table(
    "observations",
    _key("user_id"),
    sa.Column("observed_at", Instant, primary_key=True),
    _key("metric"),
    _number("value"),
    _finite("observations", "value"),
    rowid=False,
)
metrics = _table("metrics", _key("metric"), _instant("first_seen"))
users = _table(
    "users",
    _key("user_id"),
    _words("department", nullable=True),
    _words("role", nullable=True),
    _words("timezone", nullable=True),
    _words("country", nullable=True),
    sa.Column("active_from", Day),
    sa.Column("active_to", Day),
)
events = _table(
    "events",
    _key("event_id"),
    _words("kind"),
    _instant("start"),
    _instant("end"),
    _words("name"),
    _words("user_id", nullable=True),
    _words("cohort", nullable=True),
    _instant("added_at", nullable=True),
    sa.Column("author", Words, nullable=False, server_default=""),
    _instant("withdrawn_at", nullable=True),
    sa.Column("withdrawn_by", Words, nullable=False, server_default=""),
)
cohorts = _table(
    "cohorts",
    _key("user_id"),
    _words("cohort"),
    _instant("assigned_at"),
    sa.Column("author", Words, nullable=False, server_default=""),
    sa.Column("reason", Words, nullable=False, server_default=""),
)
rejects = _table(
    "rejects",
    _key("source"),
    _key("reason"),
    _key("location"),
    _words("text"),
    _instant("rejected_at"),
)

# --- what was done

runs = _table(
    "runs",
    _id(),
    _words("job"),
    _words("month", nullable=True),
    _words("state"),
    _words("outcome", nullable=True),
    _instant("planned_for", nullable=True),
    _instant("started_at", nullable=True),
    _instant("heartbeat_at", nullable=True),
    _instant("finished_at", nullable=True),
    _words("holder"),
    _words("source", nullable=True),
    _whole("rows_read"),
    sa.Column("rows_rejected", Mapping, nullable=False),
    _whole("users_scored"),
    sa.Column("users_skipped", Mapping, nullable=False),
    _whole("flags"),
    sa.Column("flag_kinds", Mapping, nullable=False),
    _instant("watermark", nullable=True),
    _words("model_version", nullable=True),
    _words("configuration"),
    _words("code_version"),
    _number("seconds", nullable=True),
    _words("note", nullable=True),
    _instant("progress_at", nullable=True),
    sa.CheckConstraint(
        "state IN ('planned', 'running', 'provisional', 'complete', 'failed', 'missed', 'superseded')",
        name="runs_state",
    ),
    sa.Index("runs_job_month", "job", "month"),
    sa.Index("runs_planned", "job", "planned_for", unique=True),
)
run_stages = _table(
    "run_stages",
    _run(primary_key=True),
    _key("stage"),
    _number("seconds"),
    _whole("rows"),
    _whole("users"),
    _whole("memory"),
    _instant("started_at", nullable=True),
    _instant("finished_at", nullable=True),
    sa.Column("skipped", Mapping, nullable=False, server_default="{}"),
)
leases = _table("leases", _key("name"), _words("holder"), _whole("token"), _instant("expires_at"))
requests = _table(
    "requests",
    _id(),
    _words("job"),
    _words("month", nullable=True),
    _words("author"),
    _instant("asked_at"),
    _instant("taken_at", nullable=True),
    _words("holder", nullable=True),
    _instant("finished_at", nullable=True),
    _run(),
    _words("note", nullable=True),
    sa.Column("reason", Words, nullable=False, server_default=""),
    sa.Column("target", sa.Integer, nullable=True),
)
shards = _table(
    "shards",
    _run(primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    _whole("users"),
    _whole("flags"),
    _instant("published_at"),
    _words("error", nullable=True),
)

# --- models and what they know of users

models = _table(
    "models",
    _key("version"),
    _words("address"),
    _words("sha256"),
    _instant("trained_from"),
    _instant("trained_to"),
    _number("validation_loss", nullable=True),
    _number("twin_loss", nullable=True),
    _number("calibration_error", nullable=True),
    _whole("users"),
    _words("metrics"),
    _words("configuration"),
    _words("state"),
    _instant("registered_at"),
    _instant("promoted_at", nullable=True),
    _words("note", nullable=True),
    _words("cell", nullable=True),
    _words("families", nullable=True),
    _words("twin", nullable=True),
    _words("trial", nullable=True),
    sa.CheckConstraint(
        "state IN ('candidate', 'champion', 'retired', 'withdrawn', 'refused')", name="models_state"
    ),
)
states = _table(
    "states",
    _key("model_version"),
    _key("month"),
    _key("user_id"),
    sa.Column("state", Bytes, nullable=False),
)
state_months = _table("state_months", _key("model_version"), _key("month"), _instant("sealed_at"))

# --- what was found

flags = _table(
    "flags",
    _run(primary_key=True),
    _key("flag_id"),
    sa.Column("shard", sa.Integer, nullable=False),
    _words("month"),
    _words("user_id"),
    _instant("start"),
    _instant("end"),
    _words("severity"),
    _number("score"),
    _number("p_value"),
    _words("kind"),
    _words("direction"),
    _words("metrics"),
    _number("observed"),
    _number("expected"),
    _number("lower"),
    _number("upper"),
    _words("explanation"),
    _number("self_percentile"),
    _number("peer_percentile"),
    _number("all_percentile"),
    _whole("peer_count"),
    sa.Column("continues", Flagged, nullable=False),
    sa.Column("series", Bytes),
    sa.Column("superseded_by", sa.Integer, sa.ForeignKey("runs.id", ondelete="SET NULL")),
    sa.Column("suppression_id", sa.Integer),
    _finite("flags", *FLAG_NUMBERS),
    sa.Index("flags_month", "month"),
    sa.Index("flags_user", "user_id"),
    sa.Index("flags_flag", "flag_id"),
)
user_months = _table(
    "user_months",
    _run(primary_key=True),
    _key("user_id"),
    sa.Column("shard", sa.Integer, nullable=False),
    _words("month"),
    _words("cohort"),
    _number("score"),
    _number("p_value"),
    _whole("flags"),
    _instant("worst_at", nullable=True),
    _words("metrics"),
    _number("self_percentile"),
    _number("peer_percentile"),
    _number("all_percentile"),
    _whole("peer_count"),
    _number("confidence"),
    _words("skipped", nullable=True),
    *(_number(name, nullable=True) for name in USER_MONTH_GUESSES),
    sa.Column("cohort_why", Words, nullable=False, server_default=""),
    _finite("user_months", *USER_MONTH_NUMBERS),
    *(_finite(f"user_months_{name}", name) for name in USER_MONTH_GUESSES),
    sa.Index("user_months_month", "month"),
    sa.Index("user_months_user", "user_id"),
)
late = _table("late", _key("month"), _key("user_id"), _instant("noticed_at"))
changes = _table(
    "changes",
    _run(primary_key=True),
    _key("flag_id"),
    _words("month"),
    _words("kind"),
    _words("user_id"),
    _instant("start"),
    _instant("end"),
    _words("severity"),
    _number("score"),
    _words("metrics"),
    sa.Column("earlier_run", sa.Integer, nullable=False),
    _words("earlier_flag_id", nullable=True),
    _instant("earlier_start", nullable=True),
    _instant("earlier_end", nullable=True),
    _words("earlier_severity", nullable=True),
    _number("earlier_score", nullable=True),
    sa.CheckConstraint("kind IN ('came', 'went', 'changed')", name="changes_kind"),
    sa.Index("changes_month", "month"),
)
feedback = _table(
    "feedback",
    _id(),
    _words("flag_id"),
    _words("verdict", nullable=True),
    _words("status", nullable=True),
    _words("assignee", nullable=True),
    _words("note"),
    _words("author"),
    _instant("given_at"),
    sa.CheckConstraint(
        "verdict IN ('true', 'false_alarm', 'expected', 'new_normal')", name="feedback_verdict"
    ),
    sa.CheckConstraint("status IN ('open', 'acknowledged', 'closed')", name="feedback_status"),
    sa.Index("feedback_flag", "flag_id"),
)
suppressions = _table(
    "suppressions",
    _id(),
    _words("user_id", nullable=True),
    _words("metric", nullable=True),
    _instant("start"),
    _instant("end", nullable=True),
    _words("reason"),
    _words("author"),
    _instant("created_at"),
    _words("cohort", nullable=True),
    _words("kind", nullable=True),
    _words("direction", nullable=True),
    _number("least_score", nullable=True),
    _number("least_effect", nullable=True),
    _words("flag_id", nullable=True),
    _instant("revoked_at", nullable=True),
    _words("revoked_by", nullable=True),
    sa.Index("suppressions_flag", "flag_id"),
)
baselines = _table(
    "baselines",
    _key("user_id"),
    _key("flag_id"),
    _instant("start"),
    _words("author"),
    _instant("created_at"),
)

# --- who was told, who may look, who looked

notifications = _table(
    "notifications",
    _id(),
    _run(),
    _words("channel"),
    _words("outcome"),
    _words("note"),
    _instant("sent_at"),
    sa.Column("kind", Words, nullable=False, server_default=""),
    _words("month", nullable=True),
)
told = _table(
    "told",
    _key("channel"),
    _key("subject"),
    sa.Column(
        "notification_id",
        sa.Integer,
        sa.ForeignKey("notifications.id", ondelete="CASCADE"),
        nullable=False,
    ),
)
tokens = _table(
    "tokens",
    _id(),
    _words("name"),
    _words("kind"),
    sa.Column("sha256", Words, nullable=False, unique=True),
    _words("role"),
    _words("author"),
    sa.Column("parent", sa.Integer),
    _instant("created_at"),
    _instant("expires_at"),
    _instant("last_used_at", nullable=True),
    _instant("revoked_at", nullable=True),
    sa.CheckConstraint("kind IN ('token', 'session')", name="tokens_kind"),
    sa.CheckConstraint(
        "role IN ('monitor', 'reader', 'analyst', 'operator', 'administrator')", name="tokens_role"
    ),
)
audit = _table(
    "audit",
    _id(),
    _instant("happened_at"),
    _words("actor"),
    _words("action"),
    _words("subject"),
    _words("reason"),
    _words("digest"),
)
audit_head = _table("audit_head", _id(), _whole("rows"), _words("digest"), _words("seal"))
secrets = _table(
    "secrets",
    _id(),
    sa.Column("content", Bytes, nullable=False),
    _words("key_id", nullable=True),
    _instant("sealed_at"),
)
pseudonyms = _table("pseudonyms", _key("user_id"), sa.Column("name", Bytes, nullable=False))
erasures = _table("erasures", _key("person"), _instant("until"))

# --- views


def _like(table: sa.Table, names: tuple[str, ...]) -> list[sa.Column[object]]:
    return [sa.Column(name, table.c[name].type) for name in names]


# What is of interest only while a run goes on is not shown to analysts.
shown_of_runs = tuple(name for name in runs.c.keys() if name != runs.c.progress_at.name)  # noqa: SIM118
runs_current = sa.Table("runs_current", VIEWS, *_like(runs, shown_of_runs))
flags_current = sa.Table(
    "flags_current",
    VIEWS,
    *_like(flags, FLAG_COLUMNS),
    *_like(flags, ("month",)),
    sa.Column("status", Words),
    sa.Column("label", Words),
    sa.Column("continues", Flagged),
    sa.Column("run_id", sa.Integer),
    sa.Column("run_state", Words),
    sa.Column("model_version", Words),
    sa.Column("configuration", Words),
    sa.Column("assignee", Words),
    sa.Column("suppressed_by", sa.Integer),
)
user_months_current = sa.Table(
    "user_months_current",
    VIEWS,
    *_like(user_months, ("month", "user_id")),
    sa.Column("rank", Whole),
    *_like(
        user_months,
        (
            "cohort",
            "score",
            "p_value",
            "flags",
            "worst_at",
            "metrics",
            "self_percentile",
            "peer_percentile",
            "all_percentile",
            "peer_count",
            "confidence",
            "skipped",
        ),
    ),
    sa.Column("run_id", sa.Integer),
    sa.Column("run_state", Words),
    sa.Column("model_version", Words),
    *_like(user_months, (*USER_MONTH_GUESSES, "cohort_why")),
)
