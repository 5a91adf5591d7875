"""A job has a budget."""

from db.migrations.from_sql import execute

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    execute("0037_budgets.sql")
