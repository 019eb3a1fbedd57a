"""Sealed names behind pseudonyms, and keyed hashes of users who were erased."""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Bytes, Instant, Name

revision = "0020"
down_revision = "0011"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "pseudonyms",
        sa.Column("user_id", Name, primary_key=True),
        sa.Column("name", Bytes, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "erasures",
        sa.Column("person", Name, primary_key=True),
        sa.Column("until", Instant, nullable=False),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Remove them: pseudonyms can no longer be opened, and erased users may come back."""
    op.drop_table("erasures")
    op.drop_table("pseudonyms")
