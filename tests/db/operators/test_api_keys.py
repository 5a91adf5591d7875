"""API keys have one spelling, leave no trace of the secret, and end for good."""

import base64
import hashlib
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from db.actors import Actor
from db.audit.reading import list_events
from db.errors import Denied, NotFound, StoreError
from db.operators.api_keys import SCOPES, _digest_of, authenticate, create_api_key, list_api_keys, revoke_api_key
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores

NO_KEY = _digest_of("")
ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def refusal(flow: Flow, presented: str) -> tuple[str, int]:
    with pytest.raises(Denied) as caught:
        authenticate(flow.api, presented)
    assert presented not in str(caught.value) or not presented
    return caught.value.code, caught.value.status


def test_a_key_says_who_holds_it_and_what_they_may(flow: Flow, tenant: Actor) -> None:
    principal = uuid4()
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, principal, "a key", ["submit", "read"])
    assert authenticate(flow.api, presented) == Actor(tenant.tenant_id, principal, key_id, frozenset({"submit", "read"}))


def test_a_key_has_256_random_bits_of_which_the_hash_alone_is_kept(flow: Flow, tenant: Actor, as_superuser: AsSuperuser) -> None:
    made = [create_api_key(flow.api, tenant.tenant_id, uuid4(), "a key", SCOPES)[1] for _ in range(5)]
    assert len(set(made)) == 5
    assert all(key.startswith("tm_") and len(key) == 46 for key in made)
    secrets = [base64.urlsafe_b64decode(key[3:] + "=") for key in made]
    stored = as_superuser("SELECT key_hash, row_to_json(api_keys)::text FROM api_keys")
    digests = {hashlib.sha256(secret).digest() for secret in secrets}
    assert {bytes(kept) for kept, _ in stored} == {flow.api.authority().hash_of(digest) for digest in digests}
    assert not any(digest.hex() in row for digest in digests for _, row in stored)
    everything = "".join(row for _, row in stored)
    assert not any(secret.hex() in everything or key[3:] in everything for secret, key in zip(secrets, made, strict=True))
    assert b"a key".hex() not in everything


def test_a_key_has_one_spelling(flow: Flow, tenant: Actor) -> None:
    """Else a list of revoked or leaked keys could be passed by with another spelling of one of them."""
    _, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "a key", SCOPES)
    at = ALPHABET.index(presented[-1])
    twins = [presented[:-1] + ALPHABET[at ^ bits] for bits in (1, 2, 3)]  # the last letter has two bits that say nothing
    others = [presented + "=", presented + "==", presented + "\n", " " + presented, presented[:9] + "!" + presented[9:]]
    others += [
        presented[:9] + "\n" + presented[9:],
        presented[3:],
        "TM_" + presented[3:],
        "tm_" + presented,
        presented[:-1],
        presented + "A",
    ]
    for wrong in [
        *twins,
        *others,
        presented.replace("_", "/"),
        "",
        "tm_",
        "tm_" + "é" * 43,
        "tm_" + "A" * 43,
        "tm_\x00",
        "tm_" + "A" * 10_000,
    ]:
        assert refusal(flow, wrong) == ("invalid_api_key", 401), "some other spelling was taken"
    authenticate(flow.api, presented)


@given(st.text(max_size=60) | st.binary(min_size=30, max_size=34).map(lambda secret: "tm_" + base64.urlsafe_b64encode(secret).decode()))
def test_what_is_no_key_is_hashed_as_no_key(presented: str) -> None:
    body = presented.removeprefix("tm_")
    good = presented.startswith("tm_") and len(body) == 43 and set(body) <= set(ALPHABET)
    canonical = good and base64.urlsafe_b64encode(base64.urlsafe_b64decode(body + "=")).rstrip(b"=").decode() == body
    assert (_digest_of(presented) != NO_KEY) == canonical


def test_an_expired_key_is_refused_from_its_instant_on(flow: Flow, tenant: Actor) -> None:
    _, soon = create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES, datetime.now(UTC) + timedelta(hours=1))
    authenticate(flow.api, soon)
    _, now = create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES, datetime.now(UTC))
    assert refusal(flow, now) == ("expired_api_key", 401)


def test_a_revoked_key_stays_revoked(flow: Flow, tenant: Actor) -> None:
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES, datetime.now(UTC) + timedelta(hours=1))
    revoke_api_key(flow.api, tenant, key_id)
    (first,) = list_api_keys(flow.api, tenant)
    revoke_api_key(flow.api, tenant, key_id)
    assert list_api_keys(flow.api, tenant) == [first]
    assert first.revoked_at is not None
    assert refusal(flow, presented) == ("revoked_api_key", 401)


def test_the_use_of_a_dead_key_is_on_record(flow: Flow, tenant: Actor) -> None:
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, tenant.principal_id, "k", SCOPES, datetime.now(UTC))
    with pytest.raises(Denied):
        authenticate(flow.api, presented, request_id="req_1", origin="192.0.2.7")
    (event,) = list_events(flow.api, tenant, action="key.use")
    assert (event.outcome, event.key_id, event.principal_id, event.object_id) == ("denied", key_id, tenant.principal_id, key_id)
    assert (event.request_id, event.origin) == ("req_1", "192.0.2.7")


def test_keys_are_listed_by_tenant_newest_first_with_their_names(flow: Flow, tenant: Actor) -> None:
    foreign = flow.new_tenant()
    create_api_key(flow.api, foreign.tenant_id, uuid4(), "theirs", SCOPES)
    names = ["first", "zweiter Schlüssel 🔑", ""]
    made = [create_api_key(flow.api, tenant.tenant_id, uuid4(), name, ["read"])[0] for name in names]
    listed = list_api_keys(flow.api, tenant)
    assert [(key.key_id, key.name) for key in listed] == list(zip(made[::-1], names[::-1], strict=True))
    assert all(key.scopes == {"read"} and key.created_at.tzinfo is not None for key in listed)
    (read,) = list_events(flow.api, tenant, action="key.list")
    assert read.row_count == 3


def test_a_name_that_is_no_text_does_no_harm(flow: Flow, tenant: Actor) -> None:
    create_api_key(flow.api, tenant.tenant_id, uuid4(), "half \ud83d and \x00", SCOPES)
    assert [key.name for key in list_api_keys(flow.api, tenant)] == ["half ? and \x00"]


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "root"], ["READ"]])
def test_a_key_with_no_scope_or_an_unknown_one_is_not_made(flow: Flow, tenant: Actor, scopes: list[str]) -> None:
    with pytest.raises(StoreError) as caught:
        create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", scopes)
    assert (caught.value.code, caught.value.status) == ("unknown_scope", 400)
    assert list_api_keys(flow.api, tenant) == []


def test_another_tenants_key_is_a_missing_one(flow: Flow, tenant: Actor) -> None:
    key_id, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES)
    foreign = flow.new_tenant()
    messages = set()
    for wrong in (key_id, uuid4(), UUID(int=0)):
        with pytest.raises(NotFound) as caught:
            revoke_api_key(flow.api, foreign, wrong)
        messages.add(str(caught.value))
    assert len(messages) == 1
    authenticate(flow.api, presented)


def test_a_refused_revocation_is_on_record(flow: Flow, tenant: Actor) -> None:
    missing = uuid4()
    with pytest.raises(NotFound):
        revoke_api_key(flow.api, replace(tenant, request_id="req_2"), missing)
    (event,) = list_events(flow.api, tenant, action="key.revoke")
    assert (event.outcome, event.object_id, event.request_id) == ("denied", missing, "req_2")


def test_before_the_tenant_is_known_one_key_can_be_seen_and_not_touched(flow: Flow, tenant: Actor) -> None:
    _, presented = create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES)
    create_api_key(flow.api, tenant.tenant_id, uuid4(), "k", SCOPES)
    create_api_key(flow.api, flow.new_tenant().tenant_id, uuid4(), "k", SCOPES)
    with flow.api.transaction(key_hash=flow.api.authority().hash_of(_digest_of(presented))) as conn:
        assert conn.execute(text("SELECT count(*) FROM api_keys")).scalar_one() == 1
        assert conn.execute(text("SELECT count(*) FROM tenants")).scalar_one() == 0
    with (
        pytest.raises(Exception, match="row-level security"),
        flow.api.transaction(key_hash=flow.api.authority().hash_of(_digest_of(presented))) as conn,
    ):
        conn.execute(text("UPDATE api_keys SET revoked_at = now()"))
