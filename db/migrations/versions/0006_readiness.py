"""What workers could run, and what they load."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql((_SQL / "0006_readiness.sql").read_text())
