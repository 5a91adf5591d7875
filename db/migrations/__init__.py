"""The tables, roles and policies, as Alembic revisions. :mod:`db.server.migrate` runs them."""
