"""Tenants stand apart, and are on record, from the first."""

from uuid import uuid4

import pytest

from db.actors import Actor
from db.audit.reading import list_events
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores
from tests.looking import on_record


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_new_tenant_has_keys_of_its_own_and_a_sealed_name(flow: Flow, as_superuser: AsSuperuser) -> None:
    made = [create_tenant(flow.api, name) for name in ("canary-7f3a", "half \ud83d of a letter")]
    kept = as_superuser("SELECT tenant_id, name_sealed FROM tenants")
    assert {tenant_id for tenant_id, _ in kept} == set(made)
    assert not any(b"canary" in bytes(sealed) for _, sealed in kept)
    for tenant_id in made:
        with on_record(flow.api, tenant_id) as conn:
            sealer = flow.api.keyring.sealer(conn, tenant_id, "tenant", tenant_id)
        opened = {sealer.open("tenants.name", tenant_id, bytes(sealed)) for owner, sealed in kept if owner == tenant_id}
        assert opened == {b"canary-7f3a" if tenant_id == made[0] else b"half ? of a letter"}
    assert as_superuser("SELECT count(DISTINCT wrapped) FROM tenant_keys WHERE key_epoch = 1") == [(2,)]
    assert as_superuser("SELECT count(*) FROM data_keys WHERE owner_kind = 'tenant' AND owner_id = tenant_id") == [(2,)]


def test_a_tenant_is_on_record_from_its_first_moment(flow: Flow) -> None:
    actor = Actor(create_tenant(flow.api, "a tenant"), uuid4(), None, SCOPES)
    (event,) = list_events(flow.api, actor)
    assert (event.action, event.component, event.object_kind, event.object_id) == ("tenant.create", "api", "tenant", actor.tenant_id)
