"""What a job takes is kept with it, and the API sees how much waits and how fast it goes, over all tenants."""

from db.migrations.from_sql import execute

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    execute("0035_forecasts.sql")
