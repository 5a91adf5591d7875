"""Alembic's entry: runs the migrations on the connection that :func:`db.server.migrate.migrate` hands over, in its transaction."""

from alembic import context

from db.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
