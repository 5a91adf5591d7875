"""A table's other columns are kept beside the text, so that results can be joined to them."""

from db.migrations.from_sql import execute

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    execute("0032_columns.sql")
