"""The tables, roles and policies, as Alembic revisions. :mod:`db.migrate` runs them."""
