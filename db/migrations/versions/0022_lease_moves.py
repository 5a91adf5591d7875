"""How a worker's role may move a lease."""

from db.migrations.from_sql import execute

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    execute("0022_lease_moves.sql")
