"""What the tests of the store share: the database as its superuser sees it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from db.settings import StoreSettings
from tests.conftest import Server

AsSuperuser = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def as_superuser(server: Server, settings: StoreSettings) -> AsSuperuser:
    """Runs a statement in the test's database past all rights: what a thief, an admin or a migration could do. Returns the rows."""
    assert settings.database_url is not None
    database = make_url(settings.database_url).database
    assert database is not None
    dsn = server.postgres.superuser_url(database).render_as_string(hide_password=False)

    def execute(statement: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True) as conn:
            found = conn.execute(statement.encode(), parameters)
            return [] if found.description is None else found.fetchall()

    return execute
