"""A list shows many objects with one event, which names them all: whoever looks for the events of one of them finds the lists, too."""

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest

from db.actors import Actor
from db.audit.reading import AuditEvent, list_events
from db.catalogue.definitions import find_definition, list_definitions, put_definition
from db.catalogue.heads import find_head, list_heads, store_head
from db.catalogue.label_sets import find_label_set, list_label_sets, put_label_set
from db.id_ranges import IdRange
from db.jobs.file_lists import find_files, list_files
from db.jobs.jobs import list_jobs
from db.jobs.versions import PROMPTS, RULES
from db.operators.api_keys import create_api_key, list_api_keys
from tests.db.flow import Flow, Stores

Made = tuple[Sequence[UUID], Callable[[Flow, Actor], object]]  # what there is, and what lists it


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def jobs(flow: Flow, who: Actor) -> Made:
    return [flow.job(who, 2).job_id for _ in range(3)], lambda f, reader: list_jobs(f.api, reader, limit=10)


def files(flow: Flow, who: Actor) -> Made:
    return [flow.upload(who, 2).file_id for _ in range(3)], lambda f, reader: list_files(f.api, reader, limit=10)


def files_found(flow: Flow, who: Actor) -> Made:
    file_id = flow.upload(who, 2).file_id
    return [file_id], lambda f, reader: find_files(f.api, reader, {None: IdRange.of(file_id.hex[:8])}, limit=10)


def keys(flow: Flow, who: Actor) -> Made:
    made = [create_api_key(flow.api, who.tenant_id, uuid4(), name, ["read"])[0] for name in ("one", "two")]
    return made, lambda f, reader: list_api_keys(f.api, reader)


def label_sets(flow: Flow, who: Actor) -> Made:
    made = [put_label_set(flow.api, who, name, ["a", "b"]).label_set_id for name in ("one", "two")]
    return made, lambda f, reader: list_label_sets(f.api, reader)


def one_label_set(flow: Flow, who: Actor) -> Made:
    put_label_set(flow.api, who, "two", ["a", "b"])
    return [put_label_set(flow.api, who, "one", ["a", "b"]).label_set_id], lambda f, reader: find_label_set(f.api, reader, "one")


def prompts(flow: Flow, who: Actor) -> Made:
    made = [put_definition(flow.api, who, PROMPTS, name, "x").definition_id for name in ("one", "two")]
    put_definition(flow.api, who, RULES, "one", "x")
    return made, lambda f, reader: list_definitions(f.api, reader, PROMPTS)


def one_prompt(flow: Flow, who: Actor) -> Made:
    put_definition(flow.api, who, PROMPTS, "two", "x")
    return [put_definition(flow.api, who, PROMPTS, "one", "x").definition_id], lambda f, reader: find_definition(
        f.api, reader, PROMPTS, "one"
    )


def trained(flow: Flow, who: Actor, name: str) -> UUID:
    flow.job(who, 3, task="train")
    lease = flow.claim(f"host:{uuid4()}")
    assert lease.head_id is not None
    card: dict[str, object] = {"labels": ["a", "b"]}
    store_head(flow.worker, lease, head_id=lease.head_id, name=name, base="minilm-l6-v2", card=card, weights=b"weights")
    flow.answer(lease)
    return lease.head_id


def heads(flow: Flow, who: Actor) -> Made:
    return [trained(flow, who, name) for name in ("one", "two")], lambda f, reader: list_heads(f.api, reader)


def one_head(flow: Flow, who: Actor) -> Made:
    trained(flow, who, "two")
    return [trained(flow, who, "one")], lambda f, reader: find_head(f.api, reader, "one")


LISTS = [
    ("job.list", jobs),
    ("file.list", files),
    ("file.list", files_found),
    ("key.list", keys),
    ("label_set.list", label_sets),
    ("label_set.read", one_label_set),
    ("prompt.list", prompts),
    ("prompt.read", one_prompt),
    ("head.list", heads),
    ("head.read", one_head),
]


def last(flow: Flow, who: Actor, action: str, object_id: UUID | None = None) -> AuditEvent:
    return list_events(flow.api, who, action=action, object_id=object_id, limit=1)[0]


@pytest.mark.parametrize(("action", "make"), LISTS, ids=[make.__name__ for _, make in LISTS])
def test_a_list_names_what_it_showed_and_is_found_by_each_of_it(
    flow: Flow, tenant: Actor, action: str, make: Callable[[Flow, Actor], Made]
) -> None:
    shown, show = make(flow, tenant)
    show(flow, tenant)
    event = last(flow, tenant, action)
    assert event.object_ids is not None
    assert sorted(event.object_ids) == sorted(shown)
    assert event.row_count == len(shown)
    for object_id in shown:
        assert last(flow, tenant, action, object_id).event_id == event.event_id


@pytest.mark.parametrize(("action", "make"), LISTS, ids=[make.__name__ for _, make in LISTS])
def test_another_tenants_list_names_and_finds_nothing_of_it(
    flow: Flow, tenant: Actor, action: str, make: Callable[[Flow, Actor], Made]
) -> None:
    stranger = flow.new_tenant()
    shown, show = make(flow, tenant)
    show(flow, stranger)
    assert not set(last(flow, stranger, action).object_ids or ()) & set(shown)
    assert [event for object_id in shown for event in list_events(flow.api, stranger, action=action, object_id=object_id)] == []


def test_a_page_of_a_list_names_its_own_objects_alone(flow: Flow, tenant: Actor) -> None:
    made = [flow.job(tenant, 2).job_id for _ in range(3)]
    first, more = list_jobs(flow.api, tenant, limit=2)
    assert more
    list_jobs(flow.api, tenant, limit=2, after=first[-1].job_id)
    second, newest = list_events(flow.api, tenant, action="job.list")
    assert (sorted(newest.object_ids or ()), second.object_ids) == (sorted(made[1:]), made[:1])
    assert [event.event_id for event in list_events(flow.api, tenant, action="job.list", object_id=made[0])] == [second.event_id]


def test_who_may_not_read_is_shown_objects_all_the_same_and_the_record_names_them(flow: Flow, tenant: Actor) -> None:
    """What is not opened for them are names; that the files are there they learn."""
    watcher = Actor(tenant.tenant_id, tenant.principal_id, None, frozenset({"submit"}))
    file_id = flow.upload(tenant, 2).file_id
    list_files(flow.api, watcher, limit=10)
    event = last(flow, tenant, "file.list", file_id)
    assert (event.object_ids, event.value_count) == ([file_id], 0)
