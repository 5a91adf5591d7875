"""Indexes for what grew large."""

from db.migrations.from_sql import execute

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    execute("0011_indexes.sql")
