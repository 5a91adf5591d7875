"""Jobs in the order of their turns."""

from db.migrations.from_sql import execute

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    execute("0010_turns.sql")
