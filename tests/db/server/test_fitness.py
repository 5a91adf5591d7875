"""What a server must be: by what it says of itself and, where a pooler stands before it, by what becomes of sessions."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL, make_url

from db.server.fitness import OLDEST, UnfitServer, ensure_fit, look
from db.server.migrate import bootstrap, migrate
from db.server.session import session
from db.server.versions import ensure_current
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.pooler import needed, pooler


@pytest.fixture
def pooled(server: Server, settings: StoreSettings, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    database = str(make_url(str(settings.database_url)).database)
    with pooler(server, database, tmp_path) as addresses:
        yield addresses


def through(settings: StoreSettings, address: str, role: Role = Role.API) -> URL:
    return settings.model_copy(update={"database_url": address}).database_url_for(role)


def test_a_server_tells_its_version_and_time(settings: StoreSettings) -> None:
    found = look(settings.database_url_for(Role.API))
    assert int(found.version.partition(".")[0]) >= OLDEST
    assert found.clock_seconds < 2.0
    assert not found.is_standby
    assert found.unfit is None


def test_who_is_not_let_in_is_told_so(settings: StoreSettings) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        look(settings.database_url_for(Role.API).set(password="another one"))


class Old:
    """A connection to a server of which nothing is known but its version."""

    class info:
        server_version = (OLDEST - 1) * 10_000 + 14


def test_an_older_server_is_refused_in_a_sentence() -> None:
    with pytest.raises(UnfitServer, match=f"The server is PostgreSQL {OLDEST - 1}, and textmill needs {OLDEST} or newer. Upgrade it"):
        ensure_fit(Old())  # type: ignore[arg-type]


@needed
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_shares_sessions_is_refused_by_whatever_comes_through_it(
    settings: StoreSettings, server: Server, pooled: Mapping[str, str], mode: str
) -> None:
    for role in (Role.API, Role.WORKER, Role.DISPATCHER):
        with pytest.raises(UnfitServer, match="pool_mode = session"):
            ensure_current(through(settings, pooled[mode], role))
    owner = through(settings, pooled[mode], Role.OWNER)
    with pytest.raises(UnfitServer, match="pool_mode = session"):
        migrate(owner)
    with pytest.raises(UnfitServer, match="pool_mode = session"):
        bootstrap(owner, server.passwords)


@needed
@pytest.mark.parametrize("in_turn", [False, True], ids=["the last one that came back", "the one that waited longest"])
def test_a_pooler_is_found_out_whichever_session_it_gives_next(
    settings: StoreSettings, server: Server, tmp_path: Path, in_turn: bool
) -> None:
    """Others have used it, and left sessions behind that nobody holds."""
    database = str(make_url(str(settings.database_url)).database)
    with pooler(server, database, tmp_path, in_turn=in_turn) as addresses, ExitStack() as held:
        url = through(settings, addresses["transaction"])
        others = [held.enter_context(session(url)) for _ in range(3)]
        for step in ("BEGIN", "COMMIT"):
            for each in others:
                each.execute(step)
        assert look(url).unfit is not None


@needed
def test_through_a_pooler_that_keeps_sessions_apart_all_is_as_without(settings: StoreSettings, pooled: Mapping[str, str]) -> None:
    url = through(settings, pooled["session"])
    assert look(url).unfit is None
    ensure_current(url)
    migrate(through(settings, pooled["session"], Role.OWNER))
