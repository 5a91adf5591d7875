"""F45: the k-th statement of a shard's life fails, for every k: claim, heartbeat, read, two writes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from db.actors import Actor
from db.connect import Store
from db.jobs import jobs
from db.queue import endings, recovery, results
from db.queue.row import WorkRow
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.flow import Flow
from tests.faults.conftest import Verdict
from tests.faults.counters import Load, count
from tests.faults.house import texts
from tests.faults.saboteur import Fault, Saboteur
from tests.workers.shard.test_life import Bench
from tests.workers.submitting import row
from workers.settings import WorkerSettings
from workers.tasks import TASKS
from workers.tasks.classify import running
from workers.tasks.task import Group, Ran, Work

Stores = Callable[[Role], Store]
ROWS = 12
CHUNK_ROWS = 6
ATTEMPTS = 4
LEAST_STATEMENTS = 25  # what a life asks of Postgres: fewer would mean that the saboteur does not see them all


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "calls.log"
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    monkeypatch.setenv("TEXTMILL_FAKE_LOG", str(log))
    monkeypatch.setattr("workers.shard.pace.Pace.take", lambda _self, sizes: min(CHUNK_ROWS, len(sizes)))
    return log


@pytest.fixture
def bench(stores: Stores, tenant: Actor, settings: StoreSettings, calls: Path, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(stores, tenant, WorkerSettings(home=tmp_path, device="cpu"))
    yield made
    made.runtime.close(drain=False)


def live(bench: Bench, first_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One shard's life, with a heartbeat while its first chunk is with the model. A worker's poller lives through a claim that fails."""

    def classify_and_renew(work: Work, group: Group, rows: Sequence[WorkRow]) -> Ran:
        if rows[0].ask.input == first_text:
            bench.keeper.renew_once()
        return running.run(work, group, rows)

    monkeypatch.setattr(TASKS["classify"], "run", classify_and_renew)
    try:
        bench.run()
    except (DBAPIError, ValueError):  # the claim failed; or there was nothing to claim
        return


@pytest.mark.fault("F45", "the k-th statement of a shard's life, for all k")
@pytest.mark.parametrize(
    "fault",
    [pytest.param(Fault.REFUSED, marks=pytest.mark.matrix), pytest.param(Fault.CUT_BEFORE, marks=pytest.mark.matrix), Fault.CUT_AFTER],
    ids=lambda fault: fault.name.lower(),
)
def test_whatever_statement_fails_another_attempt_finishes_the_shard(
    bench: Bench, stores: Stores, server: Server, calls: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, fault: Fault
) -> None:
    flow = Flow(stores)
    saboteur = Saboteur(bench.worker, lambda pid: server.execute(f"SELECT pg_terminate_backend({pid}, 2000)"), monkeypatch.setattr)
    write_results, writing = results.write_results, list[str]()

    def write_and_tell(*args: Any, **kwargs: Any) -> Any:
        writing.append("begun")
        return write_results(*args, **kwargs)

    monkeypatch.setattr(results, "write_results", write_and_tell)
    loads: list[Load] = []
    recomputed: dict[int, int] = {}
    given_back: list[int] = []
    for number in itertools.count(1):
        documents = [f"{number}: {one}" for one in texts(ROWS)]
        load = Load(bench.submit([row(at, {"input": one}) for at, one in enumerate(documents)]), bench.actor, documents)
        loads.append(load)
        writing.clear()
        saboteur.arm(fault, number)
        live(bench, documents[0], monkeypatch)
        struck = saboteur.disarm()
        if writing and not finished(bench, load):
            given_back.append(number)
        for _ in range(ATTEMPTS):
            if finished(bench, load):
                break
            flow.end_leases()
            recovery.reap_leases(bench.dispatcher)
            flow.change_shards("not_before = NULL")
            live(bench, documents[0], monkeypatch)
        assert finished(bench, load), f"{fault} at {number}"
        counted = count(bench.api, [load], calls)
        assert counted.clean, (fault, number, counted)
        recomputed[number] = counted.recomputed
        if not struck:
            break
    assert len(loads) > LEAST_STATEMENTS
    again = {number: rows for number, rows in recomputed.items() if rows}
    verdict(count(bench.api, loads, calls), cases=len(loads) - 1, kind=str(fault), again_at=sorted(again) or "none")
    assert again == {}
    assert given_back == [], "what the model has answered is kept until it is written"


def finished(bench: Bench, load: Load) -> bool:
    endings.finalize_jobs(bench.dispatcher)
    return jobs.get_job(bench.api, bench.actor, load.job_id).state == "completed"
