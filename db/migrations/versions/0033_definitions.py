"""Prompts, rules and templates that a tenant named, in versions."""

from db.migrations.from_sql import execute

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    execute("0033_definitions.sql")
