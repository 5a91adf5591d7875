"""The sealed store: tables, partitions, roles' rights and row-level security."""

from db.migrations.from_sql import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    execute("0001_tables.sql", "0001_access.sql")
