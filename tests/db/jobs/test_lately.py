"""What a running job's last shards have counted, as its owner is told."""

import pytest

from db.actors import Actor
from db.jobs import pace
from db.jobs.jobs import get_job, list_jobs
from db.queue.endings import finalize_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from tests.db.conftest import AsSuperuser
from tests.db.flow import Flow, Stores


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def write(flow: Flow, *, tokens: int = 5, cached: float = 2.0) -> int:
    """The next shard to its end. Returns how many rows it had."""
    lease = flow.claim()
    rows = [WorkRow(idx, payload=b'{"text":"a"}', input_tokens=4, output_tokens=tokens) for idx in range(lease.first_idx, lease.end_idx)]
    write_results(flow.worker, lease, rows, finish=True, model_version="m", metrics={"cached_tokens": cached, "first_token_bucket_9": 1.0})
    return len(rows)


def test_a_running_job_that_writes_texts_tells_sums_until_it_has_ended(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 90)
    assert get_job(flow.api, tenant, job.job_id).lately is None
    rows = write(flow) + write(flow)
    lately = get_job(flow.api, tenant, job.job_id).lately
    assert lately is not None
    assert {name: lately[name] for name in ("prompt_tokens", "cached_tokens", "first_token_bucket_9")} == {
        "prompt_tokens": rows * 4,
        "cached_tokens": 4.0,
        "first_token_bucket_9": 2.0,
    }
    assert list_jobs(flow.api, tenant, limit=1)[0][0].lately is None  # of a list nobody asked for it
    shards = 2
    while rows < 90:
        rows, shards = rows + write(flow), shards + 1
    finalize_jobs(flow.dispatcher)
    ended = get_job(flow.api, tenant, job.job_id)
    assert ended.lately is None
    assert (ended.metrics or {})["cached_tokens"] == 2.0 * shards


def test_a_job_that_writes_no_text_tells_none(flow: Flow, tenant: Actor) -> None:
    job = flow.job(tenant, 90)
    write(flow, tokens=0)
    assert get_job(flow.api, tenant, job.job_id).lately is None


def test_of_a_job_of_many_shards_only_those_about_its_first_open_row_are_read(
    flow: Flow, tenant: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "SHARDS", 2)
    job = flow.job(tenant, 90, shard_chars=30)
    for number in range(6):
        write(flow, cached=10.0**number)
    lately = get_job(flow.api, tenant, job.job_id).lately
    assert lately is not None
    assert lately["cached_tokens"] == 110_000.0


@pytest.mark.parametrize("stored", ["[1]", "7", '{"cached_tokens": "x", "a": [1], "b": 1e400}'])
def test_sums_that_somebody_altered_are_no_error(flow: Flow, tenant: Actor, as_superuser: AsSuperuser, stored: str) -> None:
    job = flow.job(tenant, 90)
    rows = write(flow)
    as_superuser(f"UPDATE shards SET metrics = '{stored}'")
    lately = get_job(flow.api, tenant, job.job_id).lately
    assert lately in (None, {"prompt_tokens": rows * 4.0})
