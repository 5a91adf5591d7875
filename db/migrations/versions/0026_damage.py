"""What reads brought out, and that some of it does not open."""

from db.migrations.from_sql import execute

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    execute("0026_damage.sql")
