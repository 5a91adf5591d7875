import pytest

from db.actors import Actor
from db.catalogue.definitions import (
    definition_versions,
    delete_definition,
    find_definition,
    get_definition_for_worker,
    list_definitions,
    put_definition,
)
from db.catalogue.purge import purge_versions
from db.errors import NotFound, SealError
from db.jobs.versions import PROMPTS, RULES, TEMPLATES, Kind, Version
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores

KINDS = [PROMPTS, RULES, TEMPLATES]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.mark.parametrize("kind", KINDS, ids=[kind.word for kind in KINDS])
def test_a_definition_comes_back_as_it_was_in_each_of_its_versions(flow: Flow, tenant: Actor, kind: Kind) -> None:
    first = put_definition(flow.api, tenant, kind, "ünï cödé", "Schreibe über {{ Größe }}.\n")
    assert (first.name, first.version, first.source) == ("ünï cödé", 1, "Schreibe über {{ Größe }}.\n")
    assert put_definition(flow.api, tenant, kind, "ünï cödé", first.source) == first, "the same again makes no version"
    second = put_definition(flow.api, tenant, kind, "ünï cödé", "other")
    assert list_definitions(flow.api, tenant, kind) == [second]
    assert definition_versions(flow.api, tenant, kind, "ünï cödé") == [second, first]
    assert find_definition(flow.api, tenant, kind, "ünï cödé@1") == first


def test_kinds_have_names_and_numbers_of_their_own(flow: Flow, tenant: Actor) -> None:
    made = [put_definition(flow.api, tenant, kind, "shoes", kind.word) for kind in KINDS]
    assert [one.version for one in made] == [1, 1, 1]
    put_definition(flow.api, tenant, PROMPTS, "shoes", "again")
    delete_definition(flow.api, tenant, PROMPTS, "shoes")
    assert [find_definition(flow.api, tenant, kind, "shoes") for kind in KINDS] == [None, *made[1:]]
    assert [list_definitions(flow.api, tenant, kind) for kind in KINDS] == [[], [made[1]], [made[2]]]
    assert put_definition(flow.api, tenant, PROMPTS, "shoes", "x").version == 3, "the number of a deleted version is not given again"


def test_a_definition_of_another_tenant_is_not_there(flow: Flow, tenant: Actor) -> None:
    other = flow.new_tenant()
    put_definition(flow.api, other, PROMPTS, "shoes", "x")
    assert (list_definitions(flow.api, tenant, PROMPTS), find_definition(flow.api, tenant, PROMPTS, "shoes")) == ([], None)
    with pytest.raises(NotFound):
        delete_definition(flow.api, tenant, PROMPTS, "shoes")


def test_a_worker_reads_what_is_pinned_of_the_tenant_whose_shard_it_holds(flow: Flow, tenant: Actor) -> None:
    foreign = put_definition(flow.api, flow.new_tenant(), PROMPTS, "shoes", "theirs")
    own = put_definition(flow.api, tenant, PROMPTS, "shoes", "ours")
    flow.job(tenant, 3)
    lease = flow.claim()

    def read(kind: Kind, version: Version) -> str | None:
        return get_definition_for_worker(flow.worker, lease, kind, "shoes", version)

    assert read(PROMPTS, Version(own.definition_id, 1)) == "ours"
    assert read(RULES, Version(own.definition_id, 1)) is None, "a prompt is no rules"
    assert read(PROMPTS, Version(foreign.definition_id, 1)) is None
    reads = (
        "SELECT component, job_id, row_count FROM audit_events LEFT JOIN audit_digests USING (tenant_id, event_id) WHERE action = :action"
    )
    assert ("worker", lease.job_id, 1) in flow.execute(tenant, reads, action="prompt.read")
    flow.end_leases()
    assert read(PROMPTS, Version(own.definition_id, 1)) is None


@pytest.mark.parametrize("change", ["kind = 'rules'", "number = 2", "body_sealed = body_sealed || 'x'"])
def test_what_somebody_altered_answers_nothing(flow: Flow, tenant: Actor, as_superuser: AsSuperuser, change: str) -> None:
    own = put_definition(flow.api, tenant, PROMPTS, "shoes", "ours")
    flow.job(tenant, 3)
    lease = flow.claim()
    as_superuser(f"UPDATE definitions SET {change}")
    kind = RULES if "kind" in change else PROMPTS
    [listed] = list_definitions(flow.api, tenant, kind)
    assert (listed.damaged, listed.name, listed.source) == (True, None, "")
    with pytest.raises(SealError):
        get_definition_for_worker(flow.worker, lease, kind, "shoes", Version(own.definition_id, 1))


def test_names_and_sources_are_not_readable_in_the_table(flow: Flow, tenant: Actor) -> None:
    put_definition(flow.api, tenant, PROMPTS, "canary-name", "canary-source")
    (stored,) = flow.execute(tenant, "SELECT name_hmac, body_sealed FROM definitions")
    assert {type(value) for value in stored} == {bytes}
    assert not any(b"canary" in value for value in stored)


def test_of_each_name_and_kind_the_last_versions_stay(flow: Flow, tenant: Actor) -> None:
    for kind in KINDS:
        for at in range(7):
            put_definition(flow.api, tenant, kind, "shoes", f"{kind.word} {at}")
    put_definition(flow.api, tenant, RULES, "boots", "x")
    assert purge_versions(flow.dispatcher) == 6
    for kind in KINDS:
        assert [one.version for one in definition_versions(flow.api, tenant, kind, "shoes")] == [7, 6, 5, 4, 3]
        gone = "SELECT count(*) FROM audit_events WHERE action = :action AND object_kind = :kind"
        assert flow.execute(tenant, gone, action=f"{kind.word}.purge", kind=kind.word) == [(2,)]
    assert len(definition_versions(flow.api, tenant, RULES, "boots")) == 1
