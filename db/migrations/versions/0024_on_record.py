"""What is sealed is seen by a transaction that has put an event on record, and by no other."""

from db.migrations.from_sql import execute

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    execute("0024_on_record.sql")
