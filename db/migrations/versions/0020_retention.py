"""Deletion in pages, and how long things are kept."""

from db.migrations.from_sql import execute

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    execute("0020_retention.sql")
