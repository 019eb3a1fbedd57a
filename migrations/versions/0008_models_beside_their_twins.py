"""What a model is, which twin was fitted beside it, and what both made of the trial.

Until now the registry could not say whether a model has a network, so a run that met a damaged model
had nothing to fall back to. Models that are registered already keep these columns empty.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0004"

COLUMNS = ("cell", "families", "twin", "trial")


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("models") as models:  # for SQLite
        for name in COLUMNS:
            models.add_column(sa.Column(name, sa.Text, nullable=True))


def downgrade() -> None:
    """Remove them."""
    with op.batch_alter_table("models") as models:
        for name in COLUMNS:
            models.drop_column(name)
