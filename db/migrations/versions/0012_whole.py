"""Shards that are never halved."""

from db.migrations.from_sql import execute

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    execute("0012_whole.sql")
