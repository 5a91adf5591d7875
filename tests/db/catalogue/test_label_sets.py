import pytest

from db.actors import Actor
from db.catalogue.label_sets import (
    delete_label_set,
    find_label_set,
    get_label_set_for_worker,
    label_set_versions,
    list_label_sets,
    put_label_set,
)
from db.errors import NotFound
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_a_label_set_comes_back_as_it_was(flow: Flow, tenant: Actor) -> None:
    put = put_label_set(flow.api, tenant, "ünï cödé", ["a", "ü"], ["This is {}."])
    assert (put.name, put.labels, put.templates) == ("ünï cödé", ["a", "ü"], ["This is {}."])
    plain = put_label_set(flow.api, tenant, "plain", ["x", "y"])
    assert plain.templates is None
    described = put_label_set(flow.api, tenant, "described", ["x", "y"], None, {"y": "the secönd"})
    assert (plain.descriptions, described.descriptions) == (None, {"y": "the secönd"})
    assert list_label_sets(flow.api, tenant) == [described, plain, put]


def test_another_description_is_another_version(flow: Flow, tenant: Actor) -> None:
    first = put_label_set(flow.api, tenant, "colours", ["red", "green"], None, {"red": "as blood"})
    assert put_label_set(flow.api, tenant, "colours", ["red", "green"], None, {"red": "as blood"}) == first
    assert put_label_set(flow.api, tenant, "colours", ["red", "green"], None, {"red": "as wine"}).version == 2


def test_the_same_name_again_makes_the_next_version_and_keeps_the_old_one(flow: Flow, tenant: Actor) -> None:
    put_label_set(flow.api, tenant, "colours", ["red", "green"])
    put_label_set(flow.api, tenant, "colours", ["blue", "black"])
    assert [found.labels for found in list_label_sets(flow.api, tenant)] == [["blue", "black"]]
    versions = label_set_versions(flow.api, tenant, "colours")
    assert [(one.version, one.labels) for one in versions] == [(2, ["blue", "black"]), (1, ["red", "green"])]
    assert find_label_set(flow.api, tenant, "colours@1") == versions[1]


def test_the_same_labels_again_make_no_version(flow: Flow, tenant: Actor) -> None:
    first = put_label_set(flow.api, tenant, "colours", ["red", "green"], ["{}"])
    assert put_label_set(flow.api, tenant, "colours", ["red", "green"], ["{}"]) == first
    assert put_label_set(flow.api, tenant, "colours", ["green", "red"], ["{}"]).version == 2
    assert put_label_set(flow.api, tenant, "colours", ["green", "red"]).version == 3


@pytest.mark.parametrize("deleted", [["colours@2"], ["colours@2", "colours@1"], ["colours@1", "colours@2"], ["colours"]])
def test_the_number_of_a_version_that_was_deleted_is_not_given_again(flow: Flow, tenant: Actor, deleted: list[str]) -> None:
    """Else two things are called `colours@2` in answers."""
    put_label_set(flow.api, tenant, "colours", ["red", "green"])
    put_label_set(flow.api, tenant, "colours", ["blue", "black"])
    for address in deleted:
        delete_label_set(flow.api, tenant, address)
    assert put_label_set(flow.api, tenant, "colours", ["pink", "grey"]).version == 3
    delete_label_set(flow.api, tenant, "colours")
    assert put_label_set(flow.api, tenant, "colours", ["pink", "grey"]).version == 4
    assert put_label_set(flow.api, tenant, "other", ["pink", "grey"]).version == 1
    assert put_label_set(flow.api, flow.new_tenant(), "colours", ["pink", "grey"]).version == 1


def test_of_what_was_deleted_a_keyed_hash_and_a_number_stay(flow: Flow, tenant: Actor) -> None:
    put_label_set(flow.api, tenant, "colours", ["red", "green"])
    delete_label_set(flow.api, tenant, "colours")
    [(name_hmac, number)] = flow.execute(tenant, "SELECT name_hmac, number FROM deleted_versions")
    assert (len(name_hmac), number) == (16, 1)
    assert flow.execute(tenant, "SELECT count(*) FROM label_sets") == [(0,)]


def test_a_name_that_ends_like_a_version_is_itself(flow: Flow, tenant: Actor) -> None:
    """None is made any more; those from before versions are there."""
    put_label_set(flow.api, tenant, "colours", ["red", "green"])
    put_label_set(flow.api, tenant, "colours", ["blue", "black"])
    old = put_label_set(flow.api, tenant, "colours@2", ["x", "y"])
    assert find_label_set(flow.api, tenant, "colours@2") == old
    delete_label_set(flow.api, tenant, "colours@2")
    found = find_label_set(flow.api, tenant, "colours@2")
    assert found is not None
    assert found.labels == ["blue", "black"]


def test_a_deleted_set_is_gone_and_a_foreign_one_was_never_there(flow: Flow, tenant: Actor) -> None:
    other = flow.new_tenant()
    put_label_set(flow.api, other, "colours", ["red", "green"])
    assert list_label_sets(flow.api, tenant) == []
    with pytest.raises(NotFound):
        delete_label_set(flow.api, tenant, "colours")
    delete_label_set(flow.api, other, "colours")
    assert list_label_sets(flow.api, other) == []


def test_one_set_is_found_by_its_name_and_no_other_is_opened(flow: Flow, tenant: Actor) -> None:
    put = put_label_set(flow.api, tenant, "colours", ["red", "green"])
    put_label_set(flow.api, tenant, "other", ["x", "y"])
    put_label_set(flow.api, flow.new_tenant(), "foreign", ["red", "green"])
    assert find_label_set(flow.api, tenant, "colours") == put
    assert find_label_set(flow.api, tenant, "foreign") is None
    reads = "SELECT row_count FROM audit_events JOIN audit_digests USING (tenant_id, event_id) WHERE action = 'label_set.read' ORDER BY at"
    assert flow.execute(tenant, reads)[-2:] == [(1,), (0,)]


def test_a_worker_finds_the_sets_of_the_tenant_whose_shard_it_holds(flow: Flow, tenant: Actor) -> None:
    put_label_set(flow.api, flow.new_tenant(), "foreign", ["red", "green"])
    put_label_set(flow.api, tenant, "colours", ["red", "green"], ["{} it is"])
    flow.job(tenant, 3)
    lease = flow.claim()
    assert get_label_set_for_worker(flow.worker, lease, "colours", None) == {
        "name": "colours",
        "version": 1,
        "labels": ["red", "green"],
        "templates": ["{} it is"],
        "descriptions": None,
    }
    assert get_label_set_for_worker(flow.worker, lease, "foreign", None) is None
    reads = (
        "SELECT component, job_id, row_count FROM audit_events LEFT JOIN audit_digests USING (tenant_id, event_id) WHERE action = :action"
    )
    found = {row for row in flow.execute(tenant, reads, action="label_set.read") if row[0] == "worker"}
    assert found == {("worker", lease.job_id, 1), ("worker", lease.job_id, None)}
    flow.end_leases()
    assert get_label_set_for_worker(flow.worker, lease, "colours", None) is None


def test_names_and_labels_are_not_readable_in_the_table(flow: Flow, tenant: Actor) -> None:
    put_label_set(flow.api, tenant, "canary-name", ["canary-label", "b"])
    (stored,) = flow.execute(tenant, "SELECT name_hmac, body_sealed FROM label_sets")
    assert {type(value) for value in stored} == {bytes}
    assert not any(b"canary" in value for value in stored)
