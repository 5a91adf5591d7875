"""A worker and a dispatcher small enough to read: they end jobs with answers that can be foretold, one call at a time."""

from collections.abc import Callable

import msgspec

from db.connect import Store
from db.jobs import cancel_shards, cut_validating_jobs, expire_jobs, finalize_jobs
from db.results import NewResult, write_results
from db.settings import Role
from db.shards import Lease, OpenRow, claim_any, open_shard
from workers.requests import ClassifyRequest, GenerationRequest, Reader

MODEL_VERSION = "by-hand-1"
Stores = Callable[[Role], Store]


def cut(stores: Stores, *, shard_chars: int = 10_000) -> None:
    """Validating jobs become shards, or fail."""
    cut_validating_jobs(stores(Role.DISPATCHER), lambda model, task: shard_chars)


def run_one_shard(stores: Stores) -> bool:
    """Whether there was one."""
    leases = claim_any(stores(Role.WORKER), "tests", limit=1)
    for lease in leases:
        _run(stores(Role.WORKER), lease)
    return bool(leases)


def end_jobs(stores: Stores) -> None:
    """What is cancelled, overdue or done moves to its end."""
    dispatcher = stores(Role.DISPATCHER)
    expire_jobs(dispatcher)
    cancel_shards(dispatcher)
    finalize_jobs(dispatcher)


def run_all(stores: Stores) -> None:
    cut(stores)
    while run_one_shard(stores):
        pass
    end_jobs(stores)


def _run(store: Store, lease: Lease) -> None:
    work = open_shard(store, lease)
    reader = Reader(lease.task, lease.endpoint, work.spec.get("defaults", {}))
    results = [_answer(lease, reader, row) for row in work.rows]
    write_results(store, lease, results, finish=True, model_version=MODEL_VERSION, metrics={"tokens": float(len(results)), "batches": 1.0})


def _answer(lease: Lease, reader: Reader, row: OpenRow) -> NewResult:
    if row.defect is not None:
        return _failed(row.idx, row.defect)
    if row.endpoint is not None and row.endpoint != lease.endpoint:
        return _failed(row.idx, "url_mismatch")
    match reader.read(row.body or b""):
        case str() as code:
            return _failed(row.idx, code)
        case ClassifyRequest() as request:
            labels = request.labels or ["none"]
            answer = {"object": "classification", "label": labels[len(request.text) % len(labels)], "text_chars": len(request.text)}
        case GenerationRequest():
            answer = {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "an answer"}}]}
        case _:
            answer = {"object": "list", "data": []}
    return NewResult(idx=row.idx, outcome=1, code=None, payload=msgspec.json.encode(answer), input_tokens=3, output_tokens=1)


def _failed(idx: int, code: str) -> NewResult:
    return NewResult(idx=idx, outcome=2, code=code, payload=None, input_tokens=0, output_tokens=0)
