"""What workers could run, and what they load."""

from db.migrations.from_sql import execute

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    execute("0006_readiness.sql")
