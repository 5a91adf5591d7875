"""Jobs that read what other jobs made of the same rows."""

from db.migrations.from_sql import execute

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    execute("0034_chains.sql")
