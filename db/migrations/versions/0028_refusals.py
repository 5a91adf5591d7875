"""Refusals on record say why."""

from db.migrations.from_sql import execute

revision = "0028"
down_revision = "0027"
oldest_program = "0027"  # a column that is null: the statements of before were run beside it


def upgrade() -> None:
    execute("0028_refusals.sql")
