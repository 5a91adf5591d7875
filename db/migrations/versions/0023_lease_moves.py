"""How a worker's role may move a lease."""

from db.migrations.from_sql import execute

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    execute("0023_lease_moves.sql")
