"""Pausing, retrying, ordering and deleting jobs while they run."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql((_SQL / "0002_steering.sql").read_text())
