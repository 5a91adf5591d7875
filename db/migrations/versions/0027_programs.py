"""The database says which programs may work beside it."""

from db.migrations.from_sql import execute

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    execute("0027_programs.sql")
