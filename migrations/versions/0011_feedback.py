"""Feedback that changes something: four verdicts, remarks, suppressions with a scope, baselines.

What is said of a flag is one list, oldest first: a row may bring a verdict, a status, an assignee, or
only words. "real" becomes "true", "false" becomes "false_alarm"; "unsure" was never a verdict on the
flag and becomes the status acknowledged, with its note. The way down maps them back; remarks without
a verdict that it knows are lost.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant, Name, Number

revision = "0011"
down_revision = "0016"

CURRENT = """
CREATE VIEW flags_current AS
SELECT f.flag_id, f.user_id, f."start", f."end", f.severity, f.score, f.p_value, f.kind,
    f.direction, f.metrics, f.observed, f.expected, f.lower, f.upper, f.explanation,
    f.self_percentile, f.peer_percentile, f.all_percentile, f.peer_count, f.month,
    {status} AS status,
    {label} AS label, f.continues, f.run_id, r.state AS run_state, r.model_version,
    r.configuration{more}
FROM flags AS f
JOIN runs_current AS r ON r.id = f.run_id AND r.state IN ('complete', 'provisional'){join}
"""
LAST = """(SELECT {name} FROM feedback
        WHERE flag_id = f.flag_id AND {name} IS NOT NULL ORDER BY id DESC LIMIT 1)"""
ADDED = """,
    nullif({assignee}, '') AS assignee,
    CASE WHEN f.suppression_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM feedback WHERE flag_id = f.flag_id AND verdict IS NOT NULL
    ) THEN f.suppression_id END AS suppressed_by"""
# What was said last of each thing counts; a verdict closes the flag, so a row with one says so.
AFTER = CURRENT.format(
    status=f"coalesce({LAST.format(name='status')}, 'open')",
    label=LAST.format(name="verdict"),
    more=ADDED.format(assignee=LAST.format(name="assignee")),
    join="",
)
BEFORE = CURRENT.format(
    status="""CASE
        WHEN said.verdict IS NULL THEN 'open'
        WHEN said.verdict = 'unsure' THEN 'acknowledged'
        ELSE 'closed'
    END""",
    label="said.verdict",
    more="",
    join="""
LEFT JOIN (
    SELECT flag_id, verdict FROM feedback
    WHERE id IN (SELECT max(id) FROM feedback GROUP BY flag_id)
) AS said ON said.flag_id = f.flag_id""",
)


def upgrade() -> None:
    """Move what was said into the new table; extend suppressions; make baselines."""
    op.execute("DROP VIEW flags_current")
    op.execute("CREATE TABLE feedback_before AS SELECT * FROM feedback")
    op.drop_table("feedback")
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("flag_id", Name, nullable=False),
        sa.Column("verdict", Name),
        sa.Column("status", Name),
        sa.Column("assignee", Name),
        sa.Column("note", Name, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("given_at", Instant, nullable=False),
        sa.CheckConstraint(
            "verdict IN ('true', 'false_alarm', 'expected', 'new_normal')", name="feedback_verdict"
        ),
        sa.CheckConstraint("status IN ('open', 'acknowledged', 'closed')", name="feedback_status"),
        sqlite_strict=True,
    )
    op.execute(
        """
        INSERT INTO feedback (flag_id, verdict, status, note, author, given_at)
        SELECT flag_id,
            CASE verdict WHEN 'real' THEN 'true' WHEN 'false' THEN 'false_alarm' END,
            CASE verdict WHEN 'unsure' THEN 'acknowledged' ELSE 'closed' END,
            note, author, given_at
        FROM feedback_before ORDER BY id
        """
    )
    op.execute("DROP TABLE feedback_before")
    op.create_index("feedback_flag", "feedback", ["flag_id"])
    for column in (
        sa.Column("cohort", Name),
        sa.Column("kind", Name),
        sa.Column("direction", Name),
        sa.Column("least_score", Number),
        sa.Column("least_effect", Number),
        sa.Column("flag_id", Name),
        sa.Column("revoked_at", Instant),
        sa.Column("revoked_by", Name),
    ):
        op.add_column("suppressions", column)
    op.create_index("suppressions_flag", "suppressions", ["flag_id"])
    op.add_column("flags", sa.Column("suppression_id", sa.Integer))
    op.create_table(
        "baselines",
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("flag_id", Name, primary_key=True),
        sa.Column("start", Instant, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    op.execute(AFTER)


def downgrade() -> None:
    """Back to the three former verdicts."""
    op.execute("DROP VIEW flags_current")
    op.drop_table("baselines")
    with op.batch_alter_table("flags") as flags:  # for SQLite
        flags.drop_column("suppression_id")
    op.drop_index("suppressions_flag", "suppressions")
    for name in (
        "cohort", "kind", "direction", "least_score", "least_effect", "flag_id", "revoked_at",
        "revoked_by",
    ):  # fmt: skip
        op.drop_column("suppressions", name)
    op.execute("CREATE TABLE feedback_after AS SELECT * FROM feedback")
    op.drop_table("feedback")
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("flag_id", Name, nullable=False),
        sa.Column("verdict", Name, nullable=False),
        sa.Column("note", Name, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("given_at", Instant, nullable=False),
        sa.CheckConstraint("verdict IN ('real', 'false', 'unsure')", name="feedback_verdict"),
        sqlite_strict=True,
    )
    op.execute(
        """
        INSERT INTO feedback (flag_id, verdict, note, author, given_at)
        SELECT flag_id,
            CASE verdict
                WHEN 'true' THEN 'real' WHEN 'new_normal' THEN 'real'
                WHEN 'false_alarm' THEN 'false' WHEN 'expected' THEN 'false'
                ELSE 'unsure'
            END,
            note, author, given_at
        FROM feedback_after WHERE verdict IS NOT NULL OR status = 'acknowledged' ORDER BY id
        """
    )
    op.execute("DROP TABLE feedback_after")
    op.create_index("feedback_flag", "feedback", ["flag_id"])
    op.execute(BEFORE)
