"""What a job waits for: told in words and a code, by what stands in its way most, and of nobody else's work."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from api.objects import parse_batch_id
from api.waiting import IN_WORK, reason
from api.wire import WaitingFor
from db.connect import Store
from db.jobs.ahead import Ahead
from db.jobs.jobs import get_job
from db.operators import fleet
from db.operators.fleet import Beat, Readiness, WorkerState
from db.queue.shards import claim_any, release
from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill
from tests.api.routes.test_batches import create, uploaded
from workers.models import registry

Stores = Callable[[Role], Store]


@pytest.fixture
def work(api: Served, stores: Stores, mill: Mill) -> "Work":
    return Work(api, stores, mill)


class Work:
    def __init__(self, served: Served, stores: Stores, mill: Mill) -> None:
        self.served = served
        self.api, self.worker = stores(Role.API), stores(Role.WORKER)
        self.mill = mill
        self.model = registry.default_model("classify").id

    def submit(self) -> str:
        return str(create(self.served, uploaded(self.served)).raise_for_status().json()["id"])

    def says(self, state: WorkerState = "running", **readiness: object) -> None:
        fleet.register(self.worker, "host:1", device="cpu", threads=4, version="1")
        fleet.beat(self.worker, "host:1", Beat(state, 0.0, 0, 0, 0, Readiness(**readiness)))  # type: ignore[arg-type]

    def waits_for(self, batch_id: str) -> object:
        found = self.served.http().get(f"/v1/batches/{batch_id}").raise_for_status().json()["textmill"]["waiting_for"]
        return None if found is None else (found["code"], found["message"])


def test_without_a_worker_that_is_what_it_waits_for(work: Work) -> None:
    batch_id = work.submit()
    assert work.waits_for(batch_id) == ("no_worker", "no worker is running")
    work.says("drained", models=[work.model])
    assert work.waits_for(batch_id) == ("workers_drained", "every worker is drained")


def test_a_model_whose_server_is_away_is_what_it_waits_for(work: Work) -> None:
    batch_id = work.submit()
    work.says(models=[work.model])
    work.mill.settle()
    (lease,) = claim_any(work.worker, "host:1", limit=1)
    release(work.worker, lease, code=None, kind="away", away_seconds=1e6)
    assert work.waits_for(batch_id) == ("model_away", "what runs its model is away; it is asked again in 278 h")


def test_a_model_that_no_worker_has_and_one_that_is_loaded(work: Work) -> None:
    batch_id = work.submit()
    work.says(models=["another"])
    assert work.waits_for(batch_id) == ("no_worker_has_model", "no worker has this model")
    work.says(models=["another", work.model], loading=work.model, loading_seconds=4.0)
    assert work.waits_for(batch_id) == ("loading", f"loading {work.model} (4 s)")
    work.says(models=["another", work.model], loading="another", loading_seconds=4.0)
    assert work.waits_for(batch_id) == ("turn", "waiting for its turn")
    work.says()
    assert work.waits_for(batch_id) == ("turn", "waiting for its turn"), "who did not say may have it"


def test_a_job_that_needs_no_model_waits_for_none(work: Work) -> None:
    job = replace(get_job(work.api, work.served.actor, parse_batch_id(work.submit())), model=None)
    assert reason(job, [("running", Readiness(models=[work.model]))], Ahead(0, None)) == WaitingFor("turn", "waiting for its turn")


def test_a_job_waits_behind_ones_own_and_then_not_at_all(work: Work) -> None:
    first, second = work.submit(), work.submit()
    work.says(models=[work.model])
    work.mill.settle()
    assert work.waits_for(first) == ("turn", "waiting for its turn")
    assert work.waits_for(second) == ("behind", "behind 1 job of yours")
    work.mill.run_all()
    assert work.waits_for(first) is None
    assert work.waits_for(second) is None


def test_a_job_that_a_worker_has_says_so_until_its_first_row_is_done(work: Work) -> None:
    """Behind the batches of a large job these were seconds of "0 of 3" and no word."""
    batch_id = work.submit()
    work.says(models=[work.model])
    work.mill.settle()
    (lease,) = claim_any(work.worker, "host:1", limit=1)
    assert work.waits_for(batch_id) == ("in_work", IN_WORK.message)
    release(work.worker, lease, code=None, kind="drain")
    assert work.waits_for(batch_id) == ("turn", "waiting for its turn")


def test_a_paused_job_waits_for_nobody_but_its_owner(work: Work) -> None:
    batch_id = work.submit()
    work.served.http().post(f"/v1/batches/{batch_id}/pause").raise_for_status()
    assert work.waits_for(batch_id) is None
