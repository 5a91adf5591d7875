"""Numbers of versions that were deleted are not given again."""

from db.migrations.from_sql import execute

revision = "0029"
down_revision = "0028"
oldest_program = "0027"  # a table that they do not know: theirs were run beside it


def upgrade() -> None:
    execute("0029_numbers.sql")
