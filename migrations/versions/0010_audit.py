"""An audit that can only grow, with a sealed head, and the secret that keys it.

Nothing has written to `audit` until now. Triggers refuse to change or remove its rows: they stop
mistakes and whoever has no right to drop a trigger; the chain of digests tells of the others.
"""

import sqlalchemy as sa
from alembic import op

from anomaly.store.columns import Bytes, Instant, Name, Whole

revision = "0010"
down_revision = "0008"

SQLITE = """
CREATE TRIGGER audit_keeps_{word} BEFORE {word} ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows can only be added'); END
"""
POSTGRES_FUNCTION = """
CREATE FUNCTION audit_keeps() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'audit rows can only be added' USING ERRCODE = '23001'; END $$
"""
POSTGRES_TRIGGER = """
CREATE TRIGGER audit_keeps BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_keeps()
"""


def upgrade() -> None:
    """Make the tables and the triggers."""
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("rows", Whole, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("seal", Name, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "secrets",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("content", Bytes, nullable=False),
        sa.Column("key_id", Name),
        sa.Column("sealed_at", Instant, nullable=False),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        for word in ("UPDATE", "DELETE"):
            op.execute(SQLITE.format(word=word))
    else:
        op.execute(POSTGRES_FUNCTION)
        op.execute(POSTGRES_TRIGGER)


def downgrade() -> None:
    """Remove them; an audit without its chain is worth nothing, so its rows go too."""
    if op.get_bind().dialect.name == "sqlite":
        for word in ("UPDATE", "DELETE"):
            op.execute(f"DROP TRIGGER audit_keeps_{word}")
    else:
        op.execute("DROP TRIGGER audit_keeps ON audit")
        op.execute("DROP FUNCTION audit_keeps()")
    op.execute(sa.delete(sa.table("audit")))
    op.drop_table("secrets")
    op.drop_table("audit_head")
