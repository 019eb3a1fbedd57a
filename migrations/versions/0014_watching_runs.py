"""What a stage went through while it goes on, and why something was asked for.

A stage is now entered when it begins, so that a stuck one is seen. runs_current prefers a run that
began to one that is only planned: plans of months are entered ahead of their time.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant, Mapping, Name

revision = "0014"
down_revision = "0017"

COLUMNS = """id, job, month, state, outcome, planned_for, started_at, heartbeat_at, finished_at, holder,
    source, rows_read, rows_rejected, users_scored, users_skipped, flags, flag_kinds, watermark,
    model_version, configuration, code_version, seconds, note"""
BEGUN_FIRST = (
    "WHEN state IN ('complete', 'provisional') THEN 0 WHEN state IN ('planned', 'missed') THEN 2 "
    "ELSE 1"
)
NEWEST_FIRST = "WHEN state IN ('complete', 'provisional') THEN 0 ELSE 1"
VIEW = """VIEW runs_current AS
SELECT {columns}
FROM (
    SELECT runs.*, row_number() OVER (
        PARTITION BY job, month ORDER BY CASE {order} END, id DESC
    ) AS place
    FROM runs WHERE state <> 'superseded'
) AS ordered
WHERE place = 1
"""


def upgrade() -> None:
    """Add the columns; order the view anew."""
    with op.batch_alter_table("run_stages") as stages:
        stages.add_column(sa.Column("started_at", Instant, nullable=True))
        stages.add_column(sa.Column("finished_at", Instant, nullable=True))
        stages.add_column(sa.Column("skipped", Mapping, nullable=False, server_default="{}"))
    with op.batch_alter_table("requests") as requests:
        requests.add_column(sa.Column("reason", Name, nullable=False, server_default=""))
        requests.add_column(sa.Column("target", sa.Integer, nullable=True))
    _view(BEGUN_FIRST)


def downgrade() -> None:
    """Take them back."""
    _view(NEWEST_FIRST)
    with op.batch_alter_table("requests") as requests:
        requests.drop_column("target")
        requests.drop_column("reason")
    with op.batch_alter_table("run_stages") as stages:
        stages.drop_column("skipped")
        stages.drop_column("finished_at")
        stages.drop_column("started_at")


def _view(order: str) -> None:
    """Make the view again, under those that read it."""
    text = VIEW.format(columns=COLUMNS, order=order)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"CREATE OR REPLACE {text}")
    else:
        op.execute("DROP VIEW runs_current")
        op.execute(f"CREATE {text}")
