"""The worker processes as operators see them, and who ran a shard last."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql((_SQL / "0003_workers.sql").read_text())
