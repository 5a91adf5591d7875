"""What workers have loaded."""

from db.migrations.from_sql import execute

revision = "0031"
down_revision = "0029"
oldest_program = "0027"  # a column that is null: the statements of before were run beside it


def upgrade() -> None:
    execute("0031_loaded.sql")
