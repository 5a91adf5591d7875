"""A job may read its rows' columns: a worker opens them under its lease."""

from db.migrations.from_sql import execute

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    execute("0036_columns_in_work.sql")
