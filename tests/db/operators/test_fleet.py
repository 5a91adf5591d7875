from collections.abc import Callable

import pytest
from sqlalchemy.exc import ProgrammingError

from db.actors import Actor
from db.connect import Store
from db.operators import fleet
from db.operators.fleet import FORGET_SECONDS, SILENT_SECONDS, Beat, Readiness, WorkerRecord
from db.settings import Role
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow

Stores = Callable[[Role], Store]


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def begin(flow: Flow, worker: str = "host:1", device: str = "cpu") -> None:
    fleet.register(flow.worker, worker, device=device, threads=4, version="1.2")


def said(**changes: object) -> Beat:
    return Beat(**{"state": "running", "still_seconds": 0.0, "leases": 0, "rows_done": 0, "memory_bytes": 0, **changes})  # type: ignore[arg-type]


def only(flow: Flow) -> WorkerRecord:
    (found,) = fleet.list_workers(flow.dispatcher)
    return found


def test_what_a_worker_says_of_itself_is_seen(flow: Flow, tenant: Actor) -> None:
    begin(flow)
    flow.job(tenant, 10)
    flow.claim("host:1")
    assert fleet.beat(flow.worker, "host:1", said(still_seconds=90.0, leases=1, rows_done=7, memory_bytes=1 << 30)) == "run"
    found = only(flow)
    assert (found.worker, found.host, found.device, found.threads, found.version) == ("host:1", "host", "cpu", 4, "1.2")
    assert (found.state, found.asked, found.leases, found.held, found.rows_done, found.memory_bytes) == ("running", None, 1, 1, 7, 1 << 30)
    assert 90 <= found.still_seconds < 150
    assert not found.silent


def test_a_drain_is_heard_until_it_is_taken_back(flow: Flow) -> None:
    begin(flow)
    assert fleet.ask(flow.dispatcher, ["host:1", "host:2"], "drain") == ["host:1"]
    assert fleet.beat(flow.worker, "host:1", said()) == "drain"
    assert fleet.beat(flow.worker, "host:1", said(state="drained")) == "drain"
    assert only(flow).shown_state == "drained"
    fleet.ask(flow.dispatcher, ["host:1"], "resume")
    assert fleet.beat(flow.worker, "host:1", said()) == "run"


def test_a_worker_that_was_forgotten_is_told_to_register(flow: Flow) -> None:
    begin(flow)
    fleet.forget(flow.worker, "host:1")
    assert fleet.beat(flow.worker, "host:1", said()) is None
    assert fleet.list_workers(flow.dispatcher) == []


def test_a_new_process_takes_the_place_of_the_silent_on_its_device(flow: Flow, as_superuser: AsSuperuser) -> None:
    others = (("host:1:a", "cpu"), ("host:2:a", "cpu"), ("host:3:a", "cuda:0"), ("hosts:4:a", "cpu"), ("other:5:a", "cpu"))
    for worker, device in others:
        begin(flow, worker, device)
    as_superuser("UPDATE workers SET seen_at = now() - make_interval(secs => %s) WHERE worker <> 'host:1:a'", [SILENT_SECONDS + 5])
    begin(flow, "host:6:a")
    assert [each.worker for each in fleet.list_workers(flow.dispatcher)] == ["host:1:a", "host:3:a", "host:6:a", "hosts:4:a", "other:5:a"]


def test_two_processes_of_one_host_and_pid_are_told_apart(flow: Flow) -> None:
    """Containers on two machines may be called the same, and in each the worker is process 1."""
    for worker in ("host:1:a", "host:1:b"):
        begin(flow, worker)
    assert fleet.ask(flow.dispatcher, ["host:1:a"], "drain") == ["host:1:a"]
    assert [fleet.beat(flow.worker, worker, said()) for worker in ("host:1:a", "host:1:b")] == ["drain", "run"]
    assert [each.host for each in fleet.list_workers(flow.dispatcher)] == ["host", "host"]


def test_a_container_that_started_again_is_listed_alone_once_its_dead_has_been_silent_for_long_enough(
    flow: Flow, as_superuser: AsSuperuser
) -> None:
    for worker, device in (("host:1:a", "cpu"), ("host:2:a", "cuda:0")):
        begin(flow, worker, device)
    as_superuser("UPDATE workers SET started_at = started_at - interval '1 hour', seen_at = now() - interval '5 s'")
    begin(flow, "host:1:b")
    assert fleet.forget_silent(flow.dispatcher) == 0, "it may live, on another machine of that name"
    as_superuser("UPDATE workers SET seen_at = seen_at - make_interval(secs => %s) WHERE worker LIKE '%%:a'", [SILENT_SECONDS])
    as_superuser("UPDATE workers SET started_at = now() - interval '10 s' WHERE worker = 'host:1:b'")
    assert fleet.forget_silent(flow.dispatcher) == 1
    assert [each.worker for each in fleet.list_workers(flow.dispatcher)] == ["host:1:b", "host:2:a"]


def test_only_those_not_seen_for_a_day_are_forgotten(flow: Flow, as_superuser: AsSuperuser) -> None:
    begin(flow, "host:1")
    begin(flow, "host:2", "cuda:0")
    as_superuser("UPDATE workers SET seen_at = now() - make_interval(secs => %s) WHERE worker = 'host:2'", [SILENT_SECONDS + 5])
    assert fleet.forget_silent(flow.dispatcher) == 0
    assert [each.shown_state for each in fleet.list_workers(flow.dispatcher)] == ["running", "silent"]
    as_superuser("UPDATE workers SET seen_at = now() - make_interval(secs => %s) WHERE worker = 'host:2'", [FORGET_SECONDS + 5])
    assert fleet.forget_silent(flow.dispatcher) == 1


def test_a_worker_cannot_ask_another_to_drain(flow: Flow) -> None:
    begin(flow)
    with pytest.raises(ProgrammingError, match="permission denied"):
        fleet.ask(flow.worker, ["host:1"], "drain")


def test_who_loads_what_and_since_when_is_seen_until_it_is_loaded(flow: Flow) -> None:
    begin(flow)
    fleet.beat(flow.worker, "host:1", said(readiness=Readiness(["small", "local:large"], loading="small", loading_seconds=4.0)))
    assert only(flow).doing == "loading small (4 s)"
    ((state, readiness),) = fleet.ready_workers(flow.api)
    assert (state, readiness.models, readiness.loading) == ("running", ["small", "local:large"], "small")
    assert 4.0 <= (readiness.loading_seconds or 0.0) < 30.0
    assert only(flow).loaded == []  # it did not say
    fleet.beat(flow.worker, "host:1", said(readiness=Readiness(["small"], ["small"], calibrating="small")))
    assert only(flow).doing == "calibrating small"
    assert only(flow).loaded == ["small"]
    assert fleet.ready_workers(flow.api) == [("running", Readiness(["small"], ["small"], calibrating="small"))]


def test_the_silent_are_ready_for_nothing(flow: Flow, as_superuser: AsSuperuser) -> None:
    begin(flow)
    fleet.beat(flow.worker, "host:1", said(readiness=Readiness(loading="small", loading_seconds=1.0)))
    as_superuser("UPDATE workers SET seen_at = now() - make_interval(secs => %s)", [SILENT_SECONDS + 5])
    assert fleet.ready_workers(flow.api) == []
    assert only(flow).doing == ""


def test_the_api_is_told_no_name_of_a_process_or_a_machine(flow: Flow) -> None:
    begin(flow)
    with pytest.raises(ProgrammingError, match="permission denied"):
        fleet.list_workers(flow.api)
