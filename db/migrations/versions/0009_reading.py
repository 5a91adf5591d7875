"""Results that are read while a job runs, and the size of what a file's content is."""

from db.migrations.from_sql import execute

revision = "0009"
down_revision = "0006"


def upgrade() -> None:
    execute("0009_reading.sql")
