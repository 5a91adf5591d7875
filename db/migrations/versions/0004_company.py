"""Whether a shard was claimed in company."""

from db.migrations.from_sql import execute

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    execute("0004_company.sql")
