"""Somebody who writes the table of API keys at will, and has no key file, gets no key by it."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy.event import listen, remove

from db.actors import Actor
from db.audit.reading import list_events
from db.errors import Denied, SettingsError
from db.operators.api_keys import SCOPES, _presented, authenticate, create_api_key, list_api_keys, revoke_api_key
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores

SECRET = bytes(range(32))
COPY = (
    "INSERT INTO api_keys (tenant_id, key_id, principal_id, name_sealed, key_hash, scopes, mac)"
    " SELECT tenant_id, {key_id}, principal_id, name_sealed, {key_hash}, scopes, mac FROM api_keys WHERE key_id = %(key)s"
)


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def refusal(flow: Flow, presented: str) -> str:
    with pytest.raises(Denied) as caught:
        authenticate(flow.api, presented)
    assert caught.value.status == 401
    return caught.value.code


ALTERED: dict[str, str] = {
    "wider": "scopes = ARRAY['submit', 'read', 'unmask', 'manage', 'audit', 'admin']",
    "with a null among its scopes": "scopes = ARRAY['submit', NULL]",
    "with scopes within scopes": "scopes = ARRAY[ARRAY['submit']]",
    "another principal's": "principal_id = gen_random_uuid()",
    "longer lived": "expires_at = expires_at + interval '1 year'",
    "without an end": "expires_at = NULL",
    "under another id": "key_id = gen_random_uuid()",
    "without a mac": "mac = NULL",
    "with an empty mac": "mac = ''",
}


@pytest.mark.parametrize("change", ALTERED)
def test_a_key_whose_row_was_altered_is_refused_on_record_and_shown_as_damaged(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser, change: str
) -> None:
    ends = datetime.now(UTC) + timedelta(days=1)
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", ["read"], ends)
    _, untouched = create_api_key(flow.api, tenant.tenant_id, uuid4(), "another", ["read"], ends)
    assert authenticate(flow.api, presented).scopes == {"read"}
    as_superuser(f"UPDATE api_keys SET {ALTERED[change]} WHERE key_id = %s", [key_id])
    assert refusal(flow, presented) == "damaged_api_key"
    (event,) = list_events(flow.api, tenant, action="key.use")
    assert (event.outcome, event.code) == ("denied", "damaged_api_key")
    assert sorted(key.damaged for key in list_api_keys(flow.api, tenant)) == [False, True]
    authenticate(flow.api, untouched)


def test_a_key_that_moved_to_another_tenant_opens_neither(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    other = flow.new_tenant()
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    as_superuser("UPDATE api_keys SET tenant_id = %s WHERE key_id = %s", [other.tenant_id, key_id])
    assert refusal(flow, presented) == "damaged_api_key"
    assert [event.outcome for event in list_events(flow.api, other, action="key.use")] == ["denied"]


@pytest.mark.parametrize("hashed", [lambda digest: digest, lambda digest: hashlib.sha256(digest).digest()], ids=["once", "twice"])
def test_the_hash_of_a_secret_of_ones_own_is_found_by_nobody(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser, hashed: Callable[[bytes], bytes]
) -> None:
    """Before, SHA-256 of the secret was all that it took."""
    key_id, _ = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    planted = hashed(hashlib.sha256(SECRET).digest())
    as_superuser(COPY.format(key_id="gen_random_uuid()", key_hash="%(hash)s"), {"key": key_id, "hash": planted})
    assert refusal(flow, _presented(SECRET)) == "invalid_api_key"
    (damaged,) = [key for key in list_api_keys(flow.api, tenant) if key.damaged]
    assert damaged.key_id != key_id


def test_the_hash_of_a_secret_of_ones_own_under_the_right_key_needs_the_mac_too(
    flow: Flow, tenant: Actor, as_superuser: AsSuperuser
) -> None:
    key_id, _ = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    right = flow.api.authority().hash_of(hashlib.sha256(SECRET).digest())
    as_superuser(COPY.format(key_id="gen_random_uuid()", key_hash="%(hash)s"), {"key": key_id, "hash": right})
    assert refusal(flow, _presented(SECRET)) == "damaged_api_key"


@pytest.mark.parametrize("with_mac", [False, True], ids=["the moment alone", "the whole row as it was"])
def test_a_revocation_cannot_be_taken_back(flow: Flow, tenant: Actor, as_superuser: AsSuperuser, with_mac: bool) -> None:
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    authenticate(flow.api, presented)
    ((before,),) = as_superuser("SELECT mac FROM api_keys WHERE key_id = %s", [key_id])
    revoke_api_key(flow.api, tenant, key_id)
    assert refusal(flow, presented) == "revoked_api_key"
    as_superuser("UPDATE api_keys SET revoked_at = NULL WHERE key_id = %s", [key_id])
    if with_mac:
        as_superuser("UPDATE api_keys SET mac = %s WHERE key_id = %s", [before, key_id])
    assert refusal(flow, presented) == ("revoked_api_key" if with_mac else "damaged_api_key")


def test_one_altered_row_hides_no_other_from_the_list(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    made = [create_api_key(flow.api, tenant.tenant_id, uuid4(), name, ["read"])[0] for name in ("a", "b", "c", "d")]
    nameless, swapped, endless, revoked = made
    as_superuser("UPDATE api_keys SET name_sealed = NULL WHERE key_id = %s", [nameless])
    as_superuser(
        "UPDATE api_keys SET name_sealed = (SELECT name_sealed FROM api_keys WHERE key_id = %s) WHERE key_id = %s", [endless, swapped]
    )
    as_superuser("UPDATE api_keys SET created_at = '-infinity', expires_at = 'infinity' WHERE key_id = %s", [endless])
    as_superuser("UPDATE api_keys SET revoked_at = '4713-01-01 BC' WHERE key_id = %s", [revoked])
    listed = {key.key_id: key for key in list_api_keys(flow.api, tenant)}
    assert [listed[key_id].name for key_id in made] == [None, None, "c", "d"]
    assert [key.key_id for key in listed.values() if key.damaged] == [revoked, endless]


def test_a_damaged_key_can_be_revoked_and_stays_damaged(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", ["read"])
    as_superuser("UPDATE api_keys SET scopes = ARRAY['admin'] WHERE key_id = %s", [key_id])
    revoke_api_key(flow.api, tenant, key_id)
    assert as_superuser("SELECT revoked_at IS NOT NULL FROM api_keys WHERE key_id = %s", [key_id]) == [(True,)]
    assert refusal(flow, presented) == "damaged_api_key"


def test_an_authority_key_of_ones_own_vouches_for_nothing(stores: Stores, flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    """Wrapped by another KEK it is refused in a sentence; what is no wrapped key at all is damage."""
    create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    flow.api.keyring.authority = None
    as_superuser("UPDATE store_keys SET wrapped = %s", [os.urandom(60)])
    with pytest.raises(Exception, match=r"damaged|altered|opened"):
        flow.api.authority()
    as_superuser("UPDATE store_keys SET kek_id = 'another'")
    with pytest.raises(SettingsError, match="another key file"):
        flow.api.authority()


def test_the_api_can_make_the_authority_key_and_never_change_it(flow: Flow, tenant: Actor) -> None:
    flow.api.authority()
    for statement in ("UPDATE store_keys SET kek_id = 'x'", "DELETE FROM store_keys"):
        with pytest.raises(Exception, match="permission denied"), flow.api.transaction() as conn:
            conn.exec_driver_sql(statement)


def test_an_authority_key_that_was_not_committed_vouches_for_nothing(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    as_superuser("DELETE FROM store_keys")
    flow.api.keyring.authority = None
    listen(flow.api.engine, "commit", connection_is_lost)
    try:
        with pytest.raises(ConnectionResetError):
            flow.api.authority()
    finally:
        remove(flow.api.engine, "commit", connection_is_lost)
    _, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "theirs", SCOPES)
    flow.api.keyring.authority = None  # as in another process
    authenticate(flow.api, presented)


def connection_is_lost(_conn: object) -> None:
    raise ConnectionResetError


def test_of_several_that_make_the_authority_key_at_once_one_counts(flow: Flow, stores: Stores, as_superuser: AsSuperuser) -> None:
    as_superuser("DELETE FROM store_keys")
    flow.api.keyring.authority = None
    first = flow.api.authority()
    flow.api.keyring.authority = None
    assert flow.api.authority().hash_of(b"x") == first.hash_of(b"x")
    assert stores(Role.API) is flow.api


def test_what_a_mac_is_over_has_no_second_reading() -> None:
    from db.operators.api_keys import Grant

    grant = Grant(uuid4(), uuid4(), uuid4(), bytes(32), frozenset({"read", "submit"}), None, None)
    now = datetime.now(UTC)
    others = [
        replace(grant, scopes=frozenset({"readsubmit"})),
        replace(grant, scopes=frozenset({"read", "submit", ""})),
        replace(grant, expires_at=now),
        replace(grant, revoked_at=now),
        replace(grant, tenant_id=grant.key_id, key_id=grant.tenant_id),
    ]
    assert len({tuple(each.parts()) for each in (grant, *others)}) == 6
