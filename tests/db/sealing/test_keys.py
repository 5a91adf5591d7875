"""Keys: the file of the KEK is looked after, wrapped keys that were touched do not unwrap, and memory holds only so many."""

import uuid
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import insert, text, update

from db.actors import Actor
from db.connect import Store
from db.errors import NotFound, SealError, SettingsError
from db.operators.tenants import create_tenant
from db.schema import data_keys, tenant_keys
from db.sealing import keys
from db.sealing.cells import Sealer
from db.sealing.keys import KeyRing, LocalKeyFile, OwnerKind
from db.settings import Role
from tests.looking import on_record

Stores = Callable[[Role], Store]
SECRET = b"k" * 32


# The key file


# The ring, over the database


@pytest.fixture
def api(stores: Stores) -> Store:
    return stores(Role.API)


def fresh(store: Store) -> KeyRing:
    """As another process would have it: the same KEK, nothing cached."""
    return KeyRing(store.keyring._provider)


def read_key(store: Store, ring: KeyRing, tenant: Actor, kind: OwnerKind = "tenant", owner: uuid.UUID | None = None) -> Sealer:
    with on_record(store, tenant.tenant_id) as conn:
        return ring.sealer(conn, tenant.tenant_id, kind, owner or tenant.tenant_id)


def test_another_process_finds_the_same_key(api: Store, tenant: Actor) -> None:
    owner = uuid.uuid4()
    with on_record(api, tenant.tenant_id) as conn:
        sealed = api.keyring.new_data_key(conn, tenant.tenant_id, "file", owner).seal("rows.body", 0, b"text")
    with on_record(api, tenant.tenant_id) as conn:
        assert fresh(api).sealer(conn, tenant.tenant_id, "file", owner).open("rows.body", 0, sealed) == b"text"


def test_every_owner_has_a_key_of_its_own(api: Store, tenant: Actor) -> None:
    with on_record(api, tenant.tenant_id) as conn:
        made = [api.keyring.new_data_key(conn, tenant.tenant_id, "file", uuid.uuid4()) for _ in range(20)]
    assert len({sealer.hmac("p", b"v") for sealer in made}) == 20
    assert len({sealer.key_id for sealer in made}) == 20


@pytest.mark.parametrize("size", ["changed", "cut", "empty"])
@pytest.mark.parametrize("table", ["data_keys", "tenant_keys"])
def test_a_tampered_wrapped_key_does_not_unwrap(
    stores: Stores, as_superuser: Callable[..., None], tenant: Actor, table: str, size: str
) -> None:
    api = stores(Role.API)
    change = {
        "changed": "set_byte(wrapped, 20, get_byte(wrapped, 20) # 1)",
        "cut": "substring(wrapped from 1 for 5)",
        "empty": "''::bytea",
    }[size]
    as_superuser(f"UPDATE {table} SET wrapped = {change}")
    with pytest.raises(SealError), on_record(api, tenant.tenant_id) as conn:
        fresh(api).sealer(conn, tenant.tenant_id, "tenant", tenant.tenant_id)


def test_a_wrapped_key_moved_to_another_owner_or_tenant_does_not_unwrap(
    api: Store, as_superuser: Callable[..., None], tenant: Actor
) -> None:
    owners = [uuid.uuid4(), uuid.uuid4()]
    with on_record(api, tenant.tenant_id) as conn:
        for owner in owners:
            api.keyring.new_data_key(conn, tenant.tenant_id, "file", owner)
    other = create_tenant(api, "other")
    as_superuser(
        "UPDATE data_keys SET wrapped = (SELECT wrapped FROM data_keys WHERE owner_id = %s) WHERE owner_id = %s", (owners[0], owners[1])
    )
    as_superuser(
        "UPDATE tenant_keys SET wrapped = (SELECT wrapped FROM tenant_keys WHERE tenant_id = %s) WHERE tenant_id = %s",
        (tenant.tenant_id, other),
    )
    with on_record(api, tenant.tenant_id) as conn:
        fresh(api).sealer(conn, tenant.tenant_id, "file", owners[0])
        with pytest.raises(SealError):
            fresh(api).sealer(conn, tenant.tenant_id, "file", owners[1])
    with pytest.raises(SealError), on_record(api, other) as conn:
        fresh(api).sealer(conn, other, "tenant", other)


def test_another_key_file_is_told_apart_before_anything_is_unwrapped(api: Store, tenant: Actor) -> None:
    ring = KeyRing(LocalKeyFile("another", SECRET))
    with pytest.raises(SettingsError, match=r"another key file.*TEXTMILL_KEK_FILE"), on_record(api, tenant.tenant_id) as conn:
        ring.sealer(conn, tenant.tenant_id, "tenant", tenant.tenant_id)
    with pytest.raises(SettingsError, match="another key file"), on_record(api, tenant.tenant_id) as conn:
        ring.new_data_key(conn, tenant.tenant_id, "file", uuid.uuid4())


def test_a_key_file_with_the_right_name_and_other_bytes_unwraps_nothing(api: Store, tenant: Actor) -> None:
    provider = api.keyring._provider
    assert provider is not None
    ring = KeyRing(LocalKeyFile(provider.kek_id, SECRET))
    with pytest.raises(SealError), on_record(api, tenant.tenant_id) as conn:
        ring.sealer(conn, tenant.tenant_id, "tenant", tenant.tenant_id)


def test_a_rolled_back_key_is_nowhere(api: Store, tenant: Actor) -> None:
    owner = uuid.uuid4()
    with on_record(api, tenant.tenant_id) as conn:
        api.keyring.new_data_key(conn, tenant.tenant_id, "file", owner)
        conn.rollback()
    with pytest.raises(NotFound) as caught, on_record(api, tenant.tenant_id) as conn:
        api.keyring.sealer(conn, tenant.tenant_id, "file", owner)
    assert caught.value.code == "key_destroyed"


def test_a_forgotten_key_is_looked_up_again(api: Store, tenant: Actor) -> None:
    first = read_key(api, api.keyring, tenant)
    assert read_key(api, api.keyring, tenant) is first
    api.keyring.forget(tenant.tenant_id, "tenant", tenant.tenant_id)
    assert read_key(api, api.keyring, tenant) is not first


@pytest.mark.parametrize("way", ["error", "rollback"])
def test_a_key_whose_event_was_rolled_back_is_not_in_memory(api: Store, tenant: Actor, way: str) -> None:
    ring = fresh(api)
    with suppress(ZeroDivisionError), on_record(api, tenant.tenant_id) as conn:
        assert ring.sealer(conn, tenant.tenant_id, "tenant", tenant.tenant_id)
        conn.rollback() if way == "rollback" else 1 / 0
    assert ring.cached(tenant.tenant_id, "tenant", tenant.tenant_id) is None
    read_key(api, ring, tenant)
    assert ring.cached(tenant.tenant_id, "tenant", tenant.tenant_id) is not None, "the same, committed"


def test_the_cache_keeps_what_was_used_last_and_no_more(api: Store, tenant: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "CACHED_KEYS", 3)
    owners = [uuid.uuid4() for _ in range(5)]
    ring = fresh(api)
    with on_record(api, tenant.tenant_id) as conn:
        for owner in owners:
            api.keyring.new_data_key(conn, tenant.tenant_id, "file", owner)
    for owner in owners:
        read_key(api, ring, tenant, "file", owner)
        assert ring.cached(tenant.tenant_id, "file", owners[0]) is not None, "it is used again and again"
    assert [ring.cached(tenant.tenant_id, "file", owner) is not None for owner in owners] == [True, False, False, True, True]


def test_after_a_new_epoch_old_keys_open_and_new_ones_use_it(api: Store, tenant: Actor) -> None:
    old, new = uuid.uuid4(), uuid.uuid4()
    with on_record(api, tenant.tenant_id) as conn:
        sealed = api.keyring.new_data_key(conn, tenant.tenant_id, "file", old).seal("rows.body", 0, b"text")
        assert api.keyring.new_tenant_key(conn, tenant.tenant_id) == 2
        conn.execute(update(tenant_keys).where(tenant_keys.c.key_epoch == 1).values(state="retired"))
        api.keyring.new_data_key(conn, tenant.tenant_id, "file", new)
    with on_record(api, tenant.tenant_id) as conn:
        assert fresh(api).sealer(conn, tenant.tenant_id, "file", old).open("rows.body", 0, sealed) == b"text"
        epochs = conn.execute(text("SELECT key_epoch FROM data_keys WHERE owner_id = :new"), {"new": new}).scalars().all()
    assert epochs == [2]


def test_a_destroyed_key_is_said_to_be_so(api: Store, as_superuser: Callable[..., None], tenant: Actor) -> None:
    as_superuser("DELETE FROM tenant_keys")
    with pytest.raises(NotFound) as caught, on_record(api, tenant.tenant_id) as conn:
        fresh(api).sealer(conn, tenant.tenant_id, "tenant", tenant.tenant_id)
    assert caught.value.code == "key_destroyed"


@pytest.mark.parametrize("role", [Role.DISPATCHER, Role.AUDITOR])
def test_who_reads_no_content_holds_no_keys(stores: Stores, tenant: Actor, role: Role) -> None:
    ring = stores(role).keyring
    with on_record(stores(Role.API), tenant.tenant_id) as conn:
        for attempt in (ring.sealer, ring.new_data_key):
            with pytest.raises(SettingsError, match="holds no keys"):
                attempt(conn, tenant.tenant_id, "tenant", tenant.tenant_id)


def test_an_owner_has_one_key(api: Store, tenant: Actor) -> None:
    with pytest.raises(Exception, match="data_keys_tenant_id_owner_kind_owner_id_key"), on_record(api, tenant.tenant_id) as conn:
        conn.execute(
            insert(data_keys).values(
                tenant_id=tenant.tenant_id,
                key_id=uuid.uuid4(),
                owner_kind="tenant",
                owner_id=tenant.tenant_id,
                key_epoch=1,
                wrapped=b"",
            )
        )
