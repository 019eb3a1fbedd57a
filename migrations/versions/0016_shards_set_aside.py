"""Why users of a shard were not scored, so that a later run knows which shards to take up again.

Shards that are published already were scored whole: the column stays empty for them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0009"


def upgrade() -> None:
    """Add the column."""
    op.add_column("shards", sa.Column("error", sa.Text, nullable=True))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("shards", "error")
