"""A task is any plain name: which there are, the program knows."""

from db.migrations.from_sql import execute

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    execute("0005_task_names.sql")
