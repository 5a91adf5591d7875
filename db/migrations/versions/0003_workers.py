"""The worker processes as operators see them, and who ran a shard last."""

from db.migrations.from_sql import execute

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    execute("0003_workers.sql")
