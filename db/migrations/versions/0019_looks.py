"""Looks at a job, by an index of their own."""

from db.migrations.from_sql import execute

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    execute("0019_looks.sql")
