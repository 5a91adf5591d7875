"""Who leads among the dispatchers."""

from db.migrations.from_sql import execute

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    execute("0025_leads.sql")
