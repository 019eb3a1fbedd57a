"""When a run last got on: its heart goes on beating while its work hangs."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant

revision = "0021"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; the view for analysts stays as it is."""
    op.add_column("runs", sa.Column("progress_at", Instant, nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("runs", "progress_at")
