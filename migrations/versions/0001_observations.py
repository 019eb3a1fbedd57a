"""What is observed of users, and what is known of them beside it."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Day, Instant, Name, Number

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "observations",
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("observed_at", Instant, primary_key=True),
        sa.Column("metric", Name, primary_key=True),
        sa.Column("value", Number, nullable=False),
        sa.CheckConstraint(
            "value BETWEEN -1.797e+308 AND 1.797e+308",
            name="observations_finite",
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metrics",
        sa.Column("metric", Name, primary_key=True),
        sa.Column("first_seen", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "users",
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("department", Name),
        sa.Column("role", Name),
        sa.Column("timezone", Name),
        sa.Column("country", Name),
        sa.Column("active_from", Day),
        sa.Column("active_to", Day),
        sqlite_strict=True,
    )
    op.create_table(
        "events",
        sa.Column("event_id", Name, primary_key=True),
        sa.Column("kind", Name, nullable=False),
        sa.Column("start", Instant, nullable=False),
        sa.Column("end", Instant, nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("user_id", Name),
        sa.Column("cohort", Name),
        sqlite_strict=True,
    )
    op.create_table(
        "cohorts",
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("cohort", Name, nullable=False),
        sa.Column("assigned_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "rejects",
        sa.Column("source", Name, primary_key=True),
        sa.Column("reason", Name, primary_key=True),
        sa.Column("location", Name, primary_key=True),
        sa.Column("text", Name, nullable=False),
        sa.Column("rejected_at", Instant, nullable=False),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Remove the tables and what is in them."""
    op.drop_table("rejects")
    op.drop_table("cohorts")
    op.drop_table("events")
    op.drop_table("users")
    op.drop_table("metrics")
    op.drop_table("observations")
