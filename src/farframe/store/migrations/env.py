"""What Alembic runs: the migrations on the connection that :func:`farframe.store.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from farframe.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction is already open
)
context.run_migrations()
