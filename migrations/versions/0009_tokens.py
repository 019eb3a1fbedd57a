"""Tokens with a role, an end, an author and their last use; log-ons beside them.

No version before this one could make a token, so the table is made anew. Downgrading forgets all
tokens, which the version before could not use.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Instant, Name

revision = "0009"
down_revision = "0010"


def upgrade() -> None:
    """Make the table anew."""
    op.drop_table("tokens")
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", Name, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("sha256", Name, nullable=False, unique=True),
        sa.Column("role", Name, nullable=False),
        sa.Column("author", Name, nullable=False),
        sa.Column("parent", sa.Integer),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("expires_at", Instant, nullable=False),
        sa.Column("last_used_at", Instant),
        sa.Column("revoked_at", Instant),
        sa.CheckConstraint("kind IN ('token', 'session')", name="tokens_kind"),
        sa.CheckConstraint(
            "role IN ('monitor', 'reader', 'analyst', 'operator', 'administrator')",
            name="tokens_role",
        ),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Bring back the table that nothing wrote to."""
    op.drop_table("tokens")
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", Name, nullable=False),
        sa.Column("sha256", Name, nullable=False, unique=True),
        sa.Column("rights", Name, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("revoked_at", Instant),
        sqlite_strict=True,
    )
