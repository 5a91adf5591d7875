"""Pausing, retrying, ordering and deleting jobs while they run."""

from db.migrations.from_sql import execute

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    execute("0002_steering.sql")
