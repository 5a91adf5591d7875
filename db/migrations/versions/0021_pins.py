"""Versions of heads and label sets."""

from db.migrations.from_sql import execute

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    execute("0021_pins.sql")
