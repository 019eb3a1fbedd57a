"""What was done: runs, their stages and shards, leases, requests, models and their states."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Bytes, Instant, Mapping, Name, Number, Whole

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", Name, nullable=False),
        sa.Column("month", Name),
        sa.Column("state", Name, nullable=False),
        sa.Column("outcome", Name),
        sa.Column("planned_for", Instant),
        sa.Column("started_at", Instant),
        sa.Column("heartbeat_at", Instant),
        sa.Column("finished_at", Instant),
        sa.Column("holder", Name, nullable=False),
        sa.Column("source", Name),
        sa.Column("rows_read", Whole, nullable=False),
        sa.Column("rows_rejected", Mapping, nullable=False),
        sa.Column("users_scored", Whole, nullable=False),
        sa.Column("users_skipped", Mapping, nullable=False),
        sa.Column("flags", Whole, nullable=False),
        sa.Column("flag_kinds", Mapping, nullable=False),
        sa.Column("watermark", Instant),
        sa.Column("model_version", Name),
        sa.Column("configuration", Name, nullable=False),
        sa.Column("code_version", Name, nullable=False),
        sa.Column("seconds", Number),
        sa.Column("note", Name),
        sa.CheckConstraint(
            "state IN ('planned', 'running', 'provisional', 'complete', 'failed', 'missed', 'superseded')",
            name="runs_state",
        ),
        sqlite_strict=True,
    )
    op.create_index("runs_job_month", "runs", ["job", "month"])
    op.create_index("runs_planned", "runs", ["job", "planned_for"], unique=True)
    op.create_table(
        "run_stages",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("stage", Name, primary_key=True),
        sa.Column("seconds", Number, nullable=False),
        sa.Column("rows", Whole, nullable=False),
        sa.Column("users", Whole, nullable=False),
        sa.Column("memory", Whole, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "shards",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("users", Whole, nullable=False),
        sa.Column("flags", Whole, nullable=False),
        sa.Column("published_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "leases",
        sa.Column("name", Name, primary_key=True),
        sa.Column("holder", Name, nullable=False),
        sa.Column("token", Whole, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", Name, nullable=False),
        sa.Column("month", Name),
        sa.Column("author", Name, nullable=False),
        sa.Column("asked_at", Instant, nullable=False),
        sa.Column("taken_at", Instant),
        sa.Column("holder", Name),
        sa.Column("finished_at", Instant),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE")),
        sa.Column("note", Name),
        sqlite_strict=True,
    )
    op.create_table(
        "models",
        sa.Column("version", Name, primary_key=True),
        sa.Column("address", Name, nullable=False),
        sa.Column("sha256", Name, nullable=False),
        sa.Column("trained_from", Instant, nullable=False),
        sa.Column("trained_to", Instant, nullable=False),
        sa.Column("validation_loss", Number),
        sa.Column("twin_loss", Number),
        sa.Column("calibration_error", Number),
        sa.Column("users", Whole, nullable=False),
        sa.Column("metrics", Name, nullable=False),
        sa.Column("configuration", Name, nullable=False),
        sa.Column("state", Name, nullable=False),
        sa.Column("registered_at", Instant, nullable=False),
        sa.Column("promoted_at", Instant),
        sa.Column("note", Name),
        sa.CheckConstraint(
            "state IN ('candidate', 'champion', 'retired', 'withdrawn', 'refused')",
            name="models_state",
        ),
        sqlite_strict=True,
    )
    op.create_table(
        "states",
        sa.Column("model_version", Name, primary_key=True),
        sa.Column("month", Name, primary_key=True),
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("state", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "state_months",
        sa.Column("model_version", Name, primary_key=True),
        sa.Column("month", Name, primary_key=True),
        sa.Column("sealed_at", Instant, nullable=False),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Remove the tables and what is in them."""
    op.drop_table("state_months")
    op.drop_table("states")
    op.drop_table("models")
    op.drop_table("requests")
    op.drop_table("leases")
    op.drop_table("shards")
    op.drop_table("run_stages")
    op.drop_table("runs")
