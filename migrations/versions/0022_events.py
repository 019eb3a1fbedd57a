"""Events of the calendar say who entered them when, and may be withdrawn.

Of those that are there already, nobody knows when they came: before any run that may be asked about.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant, Name

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the columns."""
    for name in ("added_at", "withdrawn_at"):
        op.add_column("events", sa.Column(name, Instant, nullable=True))
    for name in ("author", "withdrawn_by"):
        op.add_column("events", sa.Column(name, Name, nullable=False, server_default=""))


def downgrade() -> None:
    """Take them back, and with them what was withdrawn."""
    op.execute("DELETE FROM events WHERE withdrawn_at IS NOT NULL")
    for name in ("withdrawn_by", "author", "withdrawn_at", "added_at"):
        op.drop_column("events", name)
