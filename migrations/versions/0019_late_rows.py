"""Whose rows came after their month was closed, and what scoring a closed month again made different."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant, Name, Number, Words

revision = "0019"
down_revision = "0014"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "late",
        sa.Column("month", Name, primary_key=True),
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("noticed_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "changes",
        sa.Column(
            "run_id", sa.Integer, sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("flag_id", Name, primary_key=True),
        sa.Column("month", Words, nullable=False),
        sa.Column("kind", Words, nullable=False),
        sa.Column("user_id", Words, nullable=False),
        sa.Column("start", Instant, nullable=False),
        sa.Column("end", Instant, nullable=False),
        sa.Column("severity", Words, nullable=False),
        sa.Column("score", Number, nullable=False),
        sa.Column("metrics", Words, nullable=False),
        sa.Column("earlier_run", sa.Integer, nullable=False),
        sa.Column("earlier_flag_id", Words, nullable=True),
        sa.Column("earlier_start", Instant, nullable=True),
        sa.Column("earlier_end", Instant, nullable=True),
        sa.Column("earlier_severity", Words, nullable=True),
        sa.Column("earlier_score", Number, nullable=True),
        sa.CheckConstraint("kind IN ('came', 'went', 'changed')", name="changes_kind"),
        sqlite_strict=True,
    )
    op.create_index("changes_month", "changes", ["month"])


def downgrade() -> None:
    """Remove them: rows that wait to be taken up are forgotten, flags stay as they are."""
    op.drop_table("changes")
    op.drop_table("late")
