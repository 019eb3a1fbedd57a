"""What messages told of, so that a flag is told once a channel over reruns and restarts.

A message's subjects are flag ids, and for a digest its month and counts. They are claimed before it
is sent and freed if that fails.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Name

revision = "0017"
down_revision = "0020"


def upgrade() -> None:
    """Say of messages what they are and of which month, and make the table of what was told."""
    with op.batch_alter_table("notifications") as notifications:  # for SQLite
        notifications.add_column(sa.Column("kind", Name, nullable=False, server_default=""))
        notifications.add_column(sa.Column("month", Name, nullable=True))
    op.create_table(
        "told",
        sa.Column("channel", Name, primary_key=True),
        sa.Column("subject", Name, primary_key=True),
        sa.Column(
            "notification_id",
            sa.Integer,
            sa.ForeignKey("notifications.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Remove them; messages stay, and people may be told again."""
    op.drop_table("told")
    with op.batch_alter_table("notifications") as notifications:
        notifications.drop_column("month")
        notifications.drop_column("kind")
