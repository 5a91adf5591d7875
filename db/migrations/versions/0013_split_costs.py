"""The cost of halves."""

from db.migrations.from_sql import execute

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    execute("0013_split_costs.sql")
