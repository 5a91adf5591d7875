"""Claims that pass over what is put off, and counts of shards that grow."""

from db.migrations.from_sql import execute

revision = "0017"
down_revision = "0013"


def upgrade() -> None:
    execute("0017_claims.sql")
