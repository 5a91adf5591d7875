"""The API sees how long shards took, by which jobs that are new will be cut."""

from db.migrations.from_sql import execute

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    execute("0038_shard_seconds.sql")
