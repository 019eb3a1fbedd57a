"""What analysts read who only speak SQL: the runs that stand, and what they found.

runs_current has one row per job and month: the run whose results are shown, which is the newest
complete or provisional one, else the newest of any other state. A run's flags and users' months
appear when it ends, and the month's earlier ones disappear in the same moment.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

RUNS = """
CREATE VIEW runs_current AS
SELECT id, job, month, state, outcome, planned_for, started_at, heartbeat_at, finished_at, holder,
    source, rows_read, rows_rejected, users_scored, users_skipped, flags, flag_kinds, watermark,
    model_version, configuration, code_version, seconds, note
FROM (
    SELECT runs.*, row_number() OVER (
        PARTITION BY job, month
        ORDER BY CASE WHEN state IN ('complete', 'provisional') THEN 0 ELSE 1 END, id DESC
    ) AS place
    FROM runs WHERE state <> 'superseded'
) AS ordered
WHERE place = 1
"""

# A flag is open until it is labelled, acknowledged while the last label is unsure, else closed.
FLAGS = """
CREATE VIEW flags_current AS
SELECT f.flag_id, f.user_id, f."start", f."end", f.severity, f.score, f.p_value, f.kind,
    f.direction, f.metrics, f.observed, f.expected, f.lower, f.upper, f.explanation,
    f.self_percentile, f.peer_percentile, f.all_percentile, f.peer_count, f.month,
    CASE
        WHEN said.verdict IS NULL THEN 'open'
        WHEN said.verdict = 'unsure' THEN 'acknowledged'
        ELSE 'closed'
    END AS status,
    said.verdict AS label, f.continues, f.run_id, r.state AS run_state, r.model_version,
    r.configuration
FROM flags AS f
JOIN runs_current AS r ON r.id = f.run_id AND r.state IN ('complete', 'provisional')
LEFT JOIN (
    SELECT flag_id, verdict FROM feedback
    WHERE id IN (SELECT max(id) FROM feedback GROUP BY flag_id)
) AS said ON said.flag_id = f.flag_id
"""

USER_MONTHS = """
CREATE VIEW user_months_current AS
SELECT u.month, u.user_id,
    CASE WHEN u.skipped IS NULL THEN row_number() OVER (
        PARTITION BY u.month, CASE WHEN u.skipped IS NULL THEN 0 ELSE 1 END
        ORDER BY u.score DESC, u.user_id
    ) END AS rank,
    u.cohort, u.score, u.p_value, u.flags, u.worst_at, u.metrics, u.self_percentile,
    u.peer_percentile, u.all_percentile, u.peer_count, u.confidence, u.skipped, u.run_id,
    r.state AS run_state, r.model_version
FROM user_months AS u
JOIN runs_current AS r ON r.id = u.run_id AND r.state IN ('complete', 'provisional')
"""


def upgrade() -> None:
    """Make the views."""
    for view in (RUNS, FLAGS, USER_MONTHS):
        op.execute(view)


def downgrade() -> None:
    """Remove the views; the tables keep what they hold."""
    for view in ("user_months_current", "flags_current", "runs_current"):
        op.execute(f"DROP VIEW {view}")
