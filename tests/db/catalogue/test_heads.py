import uuid

import pytest

from db.actors import Actor, Lease
from db.catalogue.heads import delete_head, find_head, list_heads, load_head_for_worker, store_head
from db.errors import LeaseLost, NotFound
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


def _store(flow: Flow, lease: Lease, name: str = "news", weights: bytes = b"\x00weights") -> None:
    assert lease.head_id is not None
    store_head(
        flow.worker, lease, head_id=lease.head_id, name=name, base="minilm-l6-v2", version="v-" + weights.hex(), card=CARD, weights=weights
    )


def test_a_trained_head_is_listed_and_loads_under_a_lease(flow: Flow, tenant: Actor) -> None:
    trained = _train(flow, tenant)
    (listed,) = list_heads(flow.api, tenant)
    assert (listed.model_id, listed.name, listed.base, listed.card) == (trained.head_id, "news", "minilm-l6-v2", {**CARD, "name": "news"})
    flow.answer(trained)
    flow.job(tenant, 3)
    lease = flow.claim()
    head = load_head_for_worker(flow.worker, lease, "news")
    assert head is not None
    assert (head.model_id, head.base, head.version, head.weights) == (listed.model_id, "minilm-l6-v2", listed.version, b"\x00weights")
    assert load_head_for_worker(flow.worker, lease, "other") is None
    flow.end_leases()
    assert load_head_for_worker(flow.worker, lease, "news") is None


def test_one_head_is_found_by_its_name(flow: Flow, tenant: Actor) -> None:
    _train(flow, tenant)
    (listed,) = list_heads(flow.api, tenant)
    assert find_head(flow.api, tenant, "news") == listed
    assert find_head(flow.api, tenant, "other") is None


def test_storing_again_after_a_commit_in_doubt_changes_nothing(flow: Flow, tenant: Actor) -> None:
    lease = _train(flow, tenant)
    _store(flow, lease)
    assert len(list_heads(flow.api, tenant)) == 1


def test_training_again_under_a_name_replaces_the_head(flow: Flow, tenant: Actor) -> None:
    flow.answer(_train(flow, tenant))
    second = _train(flow, tenant, weights=b"better")
    (listed,) = list_heads(flow.api, tenant)
    assert listed.model_id == second.head_id
    head = load_head_for_worker(flow.worker, second, "news")
    assert head is not None
    assert head.weights == b"better"


def test_a_head_is_stored_only_by_the_holder_of_the_job_that_makes_it(flow: Flow, tenant: Actor) -> None:
    flow.job(tenant, 3)
    classifier = flow.claim("host:1")
    with pytest.raises(Exception, match="row-level security"):
        store_head(flow.worker, classifier, head_id=uuid.uuid4(), name="n", base="b", version="v", card=CARD, weights=b"w")
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
    assert load_head_for_worker(flow.worker, lease, "news") is None
    delete_head(flow.api, other, "news")
    assert list_heads(flow.api, other) == []


def test_what_is_done_to_a_head_is_on_record(flow: Flow, tenant: Actor) -> None:
    lease = _train(flow, tenant)
    load_head_for_worker(flow.worker, lease, "news")
    delete_head(flow.api, tenant, "news")
    recorded = flow.execute(tenant, "SELECT component, action FROM audit_events WHERE action LIKE 'head.%' ORDER BY at")
    assert recorded == [("worker", "head.write"), ("worker", "head.read"), ("api", "head.delete")]
