import uuid
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from db.actors import Actor, Lease
from db.catalogue.deleting import Deleted
from db.catalogue.heads import StoredHead, delete_head, find_head, head_versions, list_heads, load_head_for_worker, store_head
from db.catalogue.purge import KEPT_VERSIONS, purge_versions
from db.errors import LeaseLost, NotFound
from db.jobs.versions import Version
from tests.db.flow import Flow, Stores

CARD: dict[str, object] = {"labels": ["a", "b"], "examples": 10, "metrics": {"accuracy": 0.9}}


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def _train(flow: Flow, actor: Actor, name: str = "news", weights: bytes = b"\x00weights") -> Lease:
    flow.job(actor, 3, task="train")
    lease = flow.claim(f"host:{uuid.uuid4()}")
    _store(flow, lease, name, weights)
    return lease


def _store(flow: Flow, lease: Lease, name: str = "news", weights: bytes = b"\x00weights") -> StoredHead:
    assert lease.head_id is not None
    return store_head(flow.worker, lease, head_id=lease.head_id, name=name, base="minilm-l6-v2", card=CARD, weights=weights)


def test_a_trained_head_is_listed_and_loads_under_a_lease(flow: Flow, tenant: Actor) -> None:
    trained = _train(flow, tenant)
    (listed,) = list_heads(flow.api, tenant)
    assert (listed.model_id, listed.name, listed.version, listed.base) == (trained.head_id, "news", 1, "minilm-l6-v2")
    assert listed.card == {**CARD, "name": "news", "version": 1}
    flow.answer(trained)
    flow.job(tenant, 3)
    lease = flow.claim()
    pinned = Version(listed.model_id, 1)
    head = load_head_for_worker(flow.worker, lease, "news", pinned)
    assert head is not None
    assert (head.model_id, head.base, head.digest, head.weights) == (listed.model_id, "minilm-l6-v2", listed.digest, b"\x00weights")
    assert load_head_for_worker(flow.worker, lease, "news", Version(uuid.uuid4(), 1)) is None
    flow.end_leases()
    assert load_head_for_worker(flow.worker, lease, "news", pinned) is None


def test_equal_heads_of_two_tenants_show_no_equal_digest(flow: Flow, tenant: Actor) -> None:
    """It stands beside the sealed weights: one without a key would say who else learned the same."""
    other = flow.new_tenant()
    for actor in (tenant, tenant, other):
        flow.answer(_train(flow, actor, name=f"head {actor is other}"))
    again, first = head_versions(flow.api, tenant, "head False")
    (theirs,) = list_heads(flow.api, other)
    assert again.digest == first.digest != theirs.digest
    assert not {sha256(b"\x00weights").hexdigest()[: len(each.digest)] for each in (first, theirs)} & {first.digest, theirs.digest}


def test_one_head_is_found_by_its_name(flow: Flow, tenant: Actor) -> None:
    _train(flow, tenant)
    (listed,) = list_heads(flow.api, tenant)
    assert find_head(flow.api, tenant, "news") == listed
    assert find_head(flow.api, tenant, "other") is None


def test_storing_again_after_a_commit_in_doubt_changes_nothing(flow: Flow, tenant: Actor) -> None:
    """Not its weights either: a job may have begun with it."""
    lease = _train(flow, tenant)
    (first,) = list_heads(flow.api, tenant)
    assert _store(flow, lease, weights=b"another fit of the same examples") == (1, first.digest)
    assert list_heads(flow.api, tenant) == [first]
    assert flow.execute(tenant, "SELECT count(*) FROM audit_events WHERE action = 'head.write'") == [(1,)]


def test_training_again_under_a_name_makes_the_next_version_and_keeps_the_old_one(flow: Flow, tenant: Actor) -> None:
    first = _train(flow, tenant)
    flow.answer(first)
    second = _train(flow, tenant, weights=b"better")
    (listed,) = list_heads(flow.api, tenant)
    assert (listed.model_id, listed.version) == (second.head_id, 2)
    assert [(one.model_id, one.version) for one in head_versions(flow.api, tenant, "news")] == [(second.head_id, 2), (first.head_id, 1)]
    for address, meant in (("news", second), ("news@2", second), ("news@1", first)):
        found = find_head(flow.api, tenant, address)
        assert found is not None
        assert found.model_id == meant.head_id
    assert find_head(flow.api, tenant, "news@3") is None


def test_trainings_of_one_name_at_once_make_a_version_each(flow: Flow, tenant: Actor) -> None:
    leases = []
    for worker in ("host:1", "host:2", "host:3"):
        flow.job(tenant, 3, task="train")
        leases.append(flow.claim(worker))
    with ThreadPoolExecutor(len(leases)) as pool:
        made = [call.result() for call in [pool.submit(_store, flow, lease) for lease in leases]]
    assert sorted(stored.version for stored in made) == [1, 2, 3]


def test_one_version_is_deleted_and_the_one_before_it_is_meant_again(flow: Flow, tenant: Actor) -> None:
    flow.answer(_train(flow, tenant))
    flow.answer(_train(flow, tenant, weights=b"worse"))
    assert delete_head(flow.api, tenant, "news@2") == Deleted(1, 0)
    assert [one.version for one in head_versions(flow.api, tenant, "news")] == [1]
    found = find_head(flow.api, tenant, "news")
    assert found is not None
    assert found.version == 1


def test_of_a_head_the_last_versions_stay_and_older_ones_go(flow: Flow, tenant: Actor) -> None:
    for _ in range(KEPT_VERSIONS + 2):
        flow.answer(_train(flow, tenant))
    flow.answer(_train(flow, tenant, "other"))
    assert purge_versions(flow.dispatcher) == 2
    assert [one.version for one in head_versions(flow.api, tenant, "news")] == [7, 6, 5, 4, 3]
    assert purge_versions(flow.dispatcher) == 0
    recorded = flow.execute(tenant, "SELECT component, count(*) FROM audit_events WHERE action = 'head.purge' GROUP BY component")
    assert recorded == [("dispatcher", 2)]


def test_a_head_is_stored_only_by_the_holder_of_the_job_that_makes_it(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 3)
    classifier = flow.claim("host:1")
    with pytest.raises(Exception, match="row-level security"):
        store_head(flow.worker, classifier, head_id=uuid.uuid4(), name="n", base="b", card=CARD, weights=b"w")
    flow.job(tenant, 3, task="train")
    zombie = flow.claim("host:2")
    flow.end_leases()
    with pytest.raises(LeaseLost):
        _store(flow, zombie)
    assert list_heads(flow.api, tenant) == []


def test_a_deleted_head_is_gone_and_a_foreign_one_was_never_there(flow: Flow, tenant: Actor) -> None:
    other = flow.new_tenant()
    _train(flow, other)
    assert list_heads(flow.api, tenant) == []
    with pytest.raises(NotFound):
        delete_head(flow.api, tenant, "news")
    flow.job(tenant, 3)
    lease = next(lease for lease in (flow.claim("host:9"),) if lease.tenant_id == tenant.tenant_id)
    assert load_head_for_worker(flow.worker, lease, "news", None) is None
    delete_head(flow.api, other, "news")
    assert list_heads(flow.api, other) == []


def test_what_is_done_to_a_head_is_on_record(flow: Flow, tenant: Actor) -> None:
    lease = _train(flow, tenant)
    load_head_for_worker(flow.worker, lease, "news", None)
    delete_head(flow.api, tenant, "news")
    recorded = flow.execute(tenant, "SELECT component, action FROM audit_events WHERE action LIKE 'head.%' ORDER BY at")
    assert recorded == [("worker", "head.write"), ("worker", "head.read"), ("api", "head.read"), ("api", "head.delete")]


@pytest.mark.parametrize("address", ["news@2", "news"])
def test_the_number_of_a_head_that_was_deleted_is_not_given_again(flow: Flow, tenant: Actor, address: str) -> None:
    """Not where the worker's role makes the next one, either."""
    for weights in (b"good", b"worse"):
        flow.answer(_train(flow, tenant, weights=weights))
    delete_head(flow.api, tenant, address)
    assert flow.execute(tenant, "SELECT count(*) FROM models WHERE number = 2") == [(0,)]
    flow.answer(_train(flow, tenant, weights=b"better"))
    found = find_head(flow.api, tenant, "news")
    assert found is not None
    assert found.version == 3
