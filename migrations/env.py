"""Runs migrations on the connection that `anomaly.store.schema` hands over."""

from alembic import context

from anomaly.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can do it too, since the store begins its transactions itself.
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
