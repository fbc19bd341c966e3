"""What alembic runs to reach the database: the connection that `upgrade` handed in."""

from __future__ import annotations

from alembic import context

from inference.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The caller's transaction is the only one.
    transactional_ddl=True,
)
context.run_migrations()
