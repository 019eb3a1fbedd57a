"""A user's month gains a calibrated risk, why the peer group is what it is and how far its middle.

Months scored before have neither risk nor distance. `cohorts` says who was put into another group, by
whom and why; nothing wrote it before.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import LARGEST, Name, Number

revision = "0012"
down_revision = "0019"

VIEW = """
CREATE VIEW user_months_current AS
SELECT u.month, u.user_id,
    CASE WHEN u.skipped IS NULL THEN row_number() OVER (
        PARTITION BY u.month, CASE WHEN u.skipped IS NULL THEN 0 ELSE 1 END
        ORDER BY u.score DESC, u.user_id
    ) END AS rank,
    u.cohort, u.score, u.p_value, u.flags, u.worst_at, u.metrics, u.self_percentile,
    u.peer_percentile, u.all_percentile, u.peer_count, u.confidence, u.skipped, u.run_id,
    r.state AS run_state, r.model_version{more}
FROM user_months AS u
JOIN runs_current AS r ON r.id = u.run_id AND r.state IN ('complete', 'provisional')
"""


def upgrade() -> None:
    """Add the columns, and show them."""
    op.execute("DROP VIEW user_months_current")
    number = Number.compile(dialect=op.get_bind().dialect)
    for name in ("risk", "cohort_distance"):  # Alembic cannot add a rule with a column in SQLite
        op.execute(
            f"ALTER TABLE user_months ADD COLUMN {name} {number} CONSTRAINT user_months_{name}_finite "
            f"CHECK ({name} BETWEEN -{LARGEST} AND {LARGEST})"
        )
    op.add_column("user_months", sa.Column("cohort_why", Name, nullable=False, server_default=""))
    for name in ("author", "reason"):
        op.add_column("cohorts", sa.Column(name, Name, nullable=False, server_default=""))
    op.execute(VIEW.format(more=", u.risk, u.cohort_distance, u.cohort_why"))


def downgrade() -> None:
    """Take them back; who was moved stays, by whom is lost."""
    op.execute("DROP VIEW user_months_current")
    for name in ("reason", "author"):
        op.drop_column("cohorts", name)
    for name in ("cohort_why", "cohort_distance", "risk"):
        op.drop_column("user_months", name)
    op.execute(VIEW.format(more=""))
