"""What was found, what was said of it, who was told and who looked."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Bytes, Flagged, Instant, Name, Number, Whole

revision = "0003"
down_revision = "0002"


def finite(*names: str) -> str:
    """Neither NaN nor infinity is between these, on either database."""
    return " AND ".join(f"{name} BETWEEN -1.797e+308 AND 1.797e+308" for name in names)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "flags",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("flag_id", Name, primary_key=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("month", Name, nullable=False),
        sa.Column("user_id", Name, nullable=False),
        sa.Column("start", Instant, nullable=False),
        sa.Column("end", Instant, nullable=False),
        sa.Column("severity", Name, nullable=False),
        sa.Column("score", Number, nullable=False),
        sa.Column("p_value", Number, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("direction", Name, nullable=False),
        sa.Column("metrics", Name, nullable=False),
        sa.Column("observed", Number, nullable=False),
        sa.Column("expected", Number, nullable=False),
        sa.Column("lower", Number, nullable=False),
        sa.Column("upper", Number, nullable=False),
        sa.Column("explanation", Name, nullable=False),
        sa.Column("self_percentile", Number, nullable=False),
        sa.Column("peer_percentile", Number, nullable=False),
        sa.Column("all_percentile", Number, nullable=False),
        sa.Column("peer_count", Whole, nullable=False),
        sa.Column("continues", Flagged, nullable=False),
        sa.Column("series", Bytes),
        sa.Column("superseded_by", sa.Integer, sa.ForeignKey("runs.id", ondelete="SET NULL")),
        sa.CheckConstraint(
            finite(
                "score",
                "p_value",
                "observed",
                "expected",
                "lower",
                "upper",
                "self_percentile",
                "peer_percentile",
                "all_percentile",
            ),
            name="flags_finite",
        ),
        sqlite_strict=True,
    )
    op.create_index("flags_flag", "flags", ["flag_id"])
    op.create_index("flags_month", "flags", ["month"])
    op.create_index("flags_user", "flags", ["user_id"])
    op.create_table(
        "user_months",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("month", Name, nullable=False),
        sa.Column("cohort", Name, nullable=False),
        sa.Column("score", Number, nullable=False),
        sa.Column("p_value", Number, nullable=False),
        sa.Column("flags", Whole, nullable=False),
        sa.Column("worst_at", Instant),
        sa.Column("metrics", Name, nullable=False),
        sa.Column("self_percentile", Number, nullable=False),
        sa.Column("peer_percentile", Number, nullable=False),
        sa.Column("all_percentile", Number, nullable=False),
        sa.Column("peer_count", Whole, nullable=False),
        sa.Column("confidence", Number, nullable=False),
        sa.Column("skipped", Name),
        sa.CheckConstraint(
            finite(
                "score",
                "p_value",
                "self_percentile",
                "peer_percentile",
                "all_percentile",
                "confidence",
            ),
            name="user_months_finite",
        ),
        sqlite_strict=True,
    )
    op.create_index("user_months_month", "user_months", ["month"])
    op.create_index("user_months_user", "user_months", ["user_id"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("flag_id", Name, nullable=False),
        sa.Column("verdict", Name, nullable=False),
        sa.Column("note", Name, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("given_at", Instant, nullable=False),
        sa.CheckConstraint(
            "verdict IN ('real', 'false', 'unsure')",
            name="feedback_verdict",
        ),
        sqlite_strict=True,
    )
    op.create_index("feedback_flag", "feedback", ["flag_id"])
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", Name),
        sa.Column("metric", Name),
        sa.Column("start", Instant, nullable=False),
        sa.Column("end", Instant),
        sa.Column("reason", Name, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE")),
        sa.Column("channel", Name, nullable=False),
        sa.Column("outcome", Name, nullable=False),
        sa.Column("note", Name, nullable=False),
        sa.Column("sent_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", Name, nullable=False),
        sa.Column("sha256", Name, nullable=False, unique=True),
        sa.Column("rights", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("revoked_at", Instant),
        sqlite_strict=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("happened_at", Instant, nullable=False),
        sa.Column("actor", Name, nullable=False),
        sa.Column("action", Name, nullable=False),
        sa.Column("subject", Name, nullable=False),
        sa.Column("reason", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Remove the tables and what is in them."""
    op.drop_table("audit")
    op.drop_table("tokens")
    op.drop_table("notifications")
    op.drop_table("suppressions")
    op.drop_table("feedback")
    op.drop_table("user_months")
    op.drop_table("flags")
