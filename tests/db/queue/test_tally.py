"""How jobs end and why rows fail is counted once each, whoever ends or fails them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from db.actors import Actor
from db.connect import Store
from db.lifecycle import MAX_CRASHES, MAX_ERRORS
from db.queue.endings import expire_jobs, finalize_jobs
from db.queue.recovery import holds_leases, reap_leases
from db.queue.shards import claim_any, release
from db.tally import Tally
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores, plain


@dataclass
class Counted:
    """What was told to the processes of one role."""

    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)

    def of(self, store: Store) -> "Counted":
        store.tally = Tally(self.job_ended, self.rows_failed)
        return self

    def job_ended(self, task: str, outcome: str) -> None:
        self.jobs[task, outcome] += 1

    def rows_failed(self, task: str, rows_by_code: Mapping[str, int]) -> None:
        for code, rows in rows_by_code.items():
            self.rows[task, code] += rows


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


@pytest.fixture
def by_dispatcher(flow: Flow) -> Counted:
    return Counted().of(flow.dispatcher)


@pytest.fixture
def by_worker(flow: Flow) -> Counted:
    return Counted().of(flow.worker)


def test_a_job_that_is_completed_is_counted_once(flow: Flow, tenant: Actor, by_dispatcher: Counted) -> None:
    flow.job(tenant, 10)
    flow.answer(flow.claim())
    for _ in range(2):
        finalize_jobs(flow.dispatcher)
    assert by_dispatcher == Counted(Counter({("classify", "completed"): 1}), Counter())


def test_a_job_in_which_every_row_failed_is_counted_as_failed(flow: Flow, tenant: Actor, by_dispatcher: Counted) -> None:
    flow.job(tenant, 10)
    flow.answer(flow.claim(), fail=True)
    finalize_jobs(flow.dispatcher)
    assert by_dispatcher == Counted(Counter({("classify", "failed"): 1}), Counter()), "its rows were counted where they failed"


def test_rows_that_could_never_run_are_counted_where_their_job_fails(flow: Flow, tenant: Actor, by_dispatcher: Counted) -> None:
    defects = ["invalid_json", "invalid_field:labels:a list", "invalid_json"]
    flow.job(tenant, [plain(at, defect=defect) for at, defect in enumerate(defects)])
    assert by_dispatcher.jobs == {("classify", "failed"): 1}
    assert by_dispatcher.rows == {("classify", "invalid_json"): 2, ("classify", "invalid_field"): 1}


def test_rows_whose_job_ended_before_them_are_counted_with_its_end(
    flow: Flow, tenant: Actor, by_dispatcher: Counted, as_superuser: AsSuperuser
) -> None:
    flow.cancel(tenant, flow.job(tenant, 10).job_id)
    flow.job(tenant, 20)
    flow.answer(flow.claim())
    as_superuser("UPDATE jobs SET deadline = now() - interval '1 s' WHERE state = 'in_progress'")
    assert expire_jobs(flow.dispatcher) == 1
    assert by_dispatcher.jobs == {("classify", "cancelled"): 1, ("classify", "expired"): 1}
    assert by_dispatcher.rows == {("classify", "batch_cancelled"): 10, ("classify", "batch_expired"): 10}


def test_rows_that_a_worker_gives_up_are_counted_by_it(flow: Flow, tenant: Actor, by_worker: Counted, by_dispatcher: Counted) -> None:
    flow.job(tenant, 10)
    flow.change_shards("error_attempts = :errors", errors=MAX_ERRORS - 1)
    release(flow.worker, flow.claim(), code="out_of_memory", kind="error")
    assert by_worker.rows == {}
    flow.change_shards("not_before = NULL")
    release(flow.worker, flow.claim(), code="out_of_memory", kind="error")
    assert by_worker.rows == {("classify", "out_of_memory"): 10}
    assert by_dispatcher.rows == {}


def suspect(flow: Flow, tenant: Actor) -> None:
    """A row that was the death of its workers, and of one more."""
    flow.job(tenant, 1)
    flow.change_shards("crash_attempts = :crashes, not_before = now()", crashes=MAX_CRASHES)
    assert len(claim_any(flow.worker, "host:1:a")) == 1


def test_a_row_that_kills_its_workers_is_counted_by_the_dispatcher(flow: Flow, tenant: Actor, by_dispatcher: Counted) -> None:
    suspect(flow, tenant)
    flow.end_leases()
    reap_leases(flow.dispatcher)
    assert by_dispatcher.rows == {("classify", "crashed_worker"): 1}


def test_a_supervisor_leaves_it_to_the_dispatcher_which_counts(flow: Flow, tenant: Actor, by_dispatcher: Counted) -> None:
    suspect(flow, tenant)
    assert reap_leases(flow.dispatcher, dead="host:1:a") == []
    assert by_dispatcher.rows == {}
    assert holds_leases(flow.dispatcher, "host:1:a")
    assert len(reap_leases(flow.dispatcher)) == 1, "its lease is over at once"
    assert by_dispatcher.rows == {("classify", "crashed_worker"): 1}


def test_what_was_undone_is_not_counted(flow: Flow, tenant: Actor, by_dispatcher: Counted, as_superuser: AsSuperuser) -> None:
    """The database fails where the transaction commits."""
    suspect(flow, tenant)
    flow.end_leases()
    as_superuser(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON shards DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(Exception, match="wait for the next round"):
        reap_leases(flow.dispatcher)
    assert by_dispatcher.rows == {}
    as_superuser("DROP TRIGGER late ON shards")
    reap_leases(flow.dispatcher)
    assert by_dispatcher.rows == {("classify", "crashed_worker"): 1}
