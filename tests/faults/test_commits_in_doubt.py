"""F07: the connection breaks exactly in COMMIT, so that whoever stored results cannot know whether they are stored."""

import json
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy.exc import DBAPIError

from db.connect import Store, open_store
from db.queue.dispatch import cut_validating_jobs
from db.queue.endings import finalize_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard
from db.settings import Role
from tests.faults.conftest import Verdict
from tests.faults.house import House, texts
from tests.faults.proxy import Proxy, Side
from tests.workers.submitting import LABELS
from workers.engines.fake import expected_label

HOUR = 3600.0
SIDES = tuple(Side)
TOKENS = 7


@pytest.fixture
def proxy(house: House) -> Iterator[Proxy]:
    with Proxy.of_postgres(str(house.settings.database_url)) as made:
        yield made


@pytest.mark.fault("F07", "connection cut in COMMIT, before and after the server commits, and on the way there: 200 times")
def test_a_commit_in_doubt_is_settled_by_writing_again(
    house: House, proxy: Proxy, stores: Callable[[Role], Store], verdict: Verdict
) -> None:
    repeats = 201
    load = house.load(texts(repeats))
    cut_validating_jobs(stores(Role.DISPATCHER), lambda model, task: 1 << 30)
    store = open_store(house.settings.model_copy(update={"database_url": proxy.url}), Role.WORKER)
    try:
        (lease,) = claim_any(store, "tests:1", lease_seconds=HOUR)
        open_shard(store, lease)
        for idx in range(repeats):
            side = SIDES[idx % len(SIDES)]
            answer = json.dumps({"label": expected_label(load.texts[idx], LABELS, ["{}"])}).encode()
            result = WorkRow(idx, payload=answer, input_tokens=TOKENS)

            def write(result: WorkRow, *, finish: bool) -> None:
                write_results(store, lease, [result], finish=finish, model_version="fake-encoder@1", metrics={"rows": 1.0})

            finish = idx == repeats - 1
            proxy.cut_next_commit(side)
            with pytest.raises(DBAPIError):
                write(result, finish=finish)
            assert house.done_count(load.job_id) == idx + (side is Side.AFTER)
            write(result, finish=finish)
            assert house.done_count(load.job_id) == idx + 1
        assert proxy.commits_cut == repeats
    finally:
        store.close()
    finalize_jobs(stores(Role.DISPATCHER))
    (shard,) = house.shards(load.job_id)
    assert (shard.state, shard.completed_count, shard.input_tokens) == ("done", repeats, repeats * TOKENS)
    assert shard.metrics["rows"] == repeats, "what a shard took is not counted twice either"
    assert verdict(house.count([load]), commits_cut=repeats).recomputed == 0


@pytest.mark.matrix
@pytest.mark.fault("F07", "connection cut in COMMIT of a worker that works")
def test_a_worker_whose_commits_are_cut_computes_nothing_again(house: House, proxy: Proxy, verdict: Verdict) -> None:
    loads = house.load_all(4_000)
    house.start_dispatcher()
    worker = house.start_worker(delay_ms=2, TEXTMILL_DATABASE_URL=proxy.url, TEXTMILL_LEASE_SECONDS="10")
    cuts = 21
    for number in range(cuts):
        proxy.cut_next_commit(SIDES[number % len(SIDES)])
        house.wait_for(lambda: not proxy.waits_for_commit, "a commit is cut")
    house.wait_all_completed(loads)
    assert worker.alive
    assert proxy.commits_cut == cuts
    counted = verdict(house.count(loads), fenced=house.fenced(), commits_cut=cuts)
    assert counted.recomputed == 0, "the answers are kept in memory and written again"
