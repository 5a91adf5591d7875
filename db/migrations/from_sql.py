"""Runs a migration's statements as they are written in ``sql/``."""

from pathlib import Path
from typing import Final

from alembic import op

_SQL: Final = Path(__file__).parent / "sql"


def execute(*names: str) -> None:
    """Executes the files in the order given, in the migration's transaction. A ``%`` or a colon in them is no parameter."""
    connection = op.get_bind().execution_options(no_parameters=True)
    for name in names:
        connection.exec_driver_sql((_SQL / name).read_text())
