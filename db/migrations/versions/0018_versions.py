"""The revision, to be seen by who depends on it."""

from db.migrations.from_sql import execute

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    execute("0018_versions.sql")
