"""Whoever sits at this machine gets a key of what is stored here, whatever was lost or revoked; never, in silence, an empty tenant."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import URL

from api.local.first_start import make_local_key
from api.local.home.home import Home
from db.connect import Store
from db.operators.api_keys import authenticate, revoke_api_key
from db.operators.tenants import create_tenant
from db.private_files import read_private
from db.settings import Role, StoreSettings
from tests.conftest import Server


@pytest.fixture
def superuser(server: Server, settings: StoreSettings) -> URL:
    return server.postgres.superuser_url(settings.database_url_for(Role.API).database or "")


@pytest.fixture
def store(stores: Callable[[Role], Store]) -> Store:
    return stores(Role.API)


def held(store: Store, home: Home) -> UUID:
    """The tenant whose key lies in the home, which says so itself."""
    tenant_id = authenticate(store, read_private(home.secrets / "api-key").strip()).tenant_id
    assert (home.path / "tenant").read_text().strip() == str(tenant_id)
    return tenant_id


def revoke(store: Store, home: Home) -> None:
    actor = authenticate(store, read_private(home.secrets / "api-key").strip())
    assert actor.key_id is not None
    revoke_api_key(store, actor, actor.key_id)


def lose_key(store: Store, home: Home) -> None:
    (home.secrets / "api-key").unlink()


@pytest.mark.parametrize("ends", [revoke, lose_key])
@pytest.mark.parametrize("kept", ["", "no id", "5b1f36a4-4a0e-4c1c-9d0e-6f6e9d3c2a11"], ids=["empty", "no-id", "unknown"])
def test_a_home_without_a_good_key_gets_another_of_its_tenant_and_says_so(
    ends: Callable[[Store, Home], None], kept: str, settings: StoreSettings, store: Store, superuser: URL
) -> None:
    home = Home(settings.home)
    assert make_local_key(home, settings, superuser) is None, "the first start is nothing to tell of"
    first = held(store, home)
    create_tenant(store, "another, made later")
    ends(store, home)
    (home.path / "tenant").unlink()
    if kept:
        (home.path / "tenant").write_text(kept)
    assert "a new one, of the same tenant" in (make_local_key(home, settings, superuser) or "")
    assert held(store, home) == first
    assert make_local_key(home, settings, superuser) is None


def test_a_restored_home_knows_its_tenant_before_its_key_is_revoked(settings: StoreSettings, store: Store) -> None:
    home = Home(settings.home)
    make_local_key(home, settings)
    first = held(store, home)
    (home.path / "tenant").unlink()  # no backup has it
    make_local_key(home, settings)
    revoke(store, home)
    make_local_key(home, settings)
    assert held(store, home) == first
