"""The sealed store: tables, partitions, roles' rights and row-level security."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None

_SQL = Path(__file__).parent.parent / "sql"


def upgrade() -> None:
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in ("0001_tables.sql", "0001_access.sql"):
        connection.exec_driver_sql((_SQL / name).read_text())
