"""Results that are read while a job runs, and the size of what a file's content is."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0006"

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    connection.exec_driver_sql((_SQL / "0009_reading.sql").read_text())
