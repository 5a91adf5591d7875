"""Q2: the store without queue and model. Rows a second in, through claim, open and write, and out again. And what sealing and audit take.

An own Postgres, durable as `textmill up` makes it, and this process as API, dispatcher and worker in turn, one thread. The rates are
measured first, with nothing in the way; then the same once more with every call of the sealer and of the audit timed (``spent``).
"""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL

from api.demo.corpus import LABELS
from api.local.home.home import Home
from api.local.home.secret_files import write_private
from api.local.servers.postgres import EmbeddedPostgres
from db.actors import Actor
from db.audit import acts, events
from db.connect import Store, open_store
from db.files.files import create_file
from db.files.rows import NewRow, RowWriter
from db.jobs.creating import NewJob, create_job
from db.jobs.results import iter_results
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.queue.dispatch import cut_validating_jobs
from db.queue.results import write_results
from db.queue.row import WorkRow
from db.queue.shards import claim_any, open_shard
from db.sealing.cells import Sealer
from db.sealing.keys import LocalKeyFile
from db.server.migrate import bootstrap, migrate
from db.settings import Role, StoreSettings, load
from tests.benchmarks.mill import ENCODER
from tests.benchmarks.workloads import Workload
from workers.dispatch.sizing import shard_chars
from workers.settings import DispatcherSettings

DATABASE = "benchmark"
APPEND_ROWS = 4_096
SEALING = [name for name, member in vars(Sealer).items() if callable(member) and not name.startswith("_")]
AUDIT = (acts.record_act, acts.record_work, events.record, events.record_digest)


@dataclass(slots=True)
class Spent:
    """Seconds within the sealer's calls (CPU time) and within the audit's (wall time: most of it is Postgres')."""

    sealing_seconds: float = 0.0
    audit_seconds: float = 0.0
    sealing_calls: int = 0
    audit_calls: int = 0


@dataclass(frozen=True, slots=True)
class StoreRates:
    """Rows a second of each step. ``spent_per_row``: of a second, timed, pass: what sealing and audit take, in seconds."""

    rows: int
    shards: int
    rates: dict[str, float]
    spent: Spent = field(default_factory=Spent)

    @property
    def spent_per_row(self) -> float:
        return (self.spent.sealing_seconds + self.spent.audit_seconds) / self.rows


def measure_store(folder: Path, workload: Workload) -> StoreRates:
    with durable_stores(folder) as stores:
        _pass(stores, workload.take(max(1, len(workload) // 10)))
        shards, rates = _pass(stores, workload)
        with timed() as spent:
            _pass(stores, workload)
    return StoreRates(len(workload), shards, rates, spent)


@contextmanager
def durable_stores(folder: Path) -> Iterator[dict[Role, Store]]:
    """A Postgres of its own, as durable as `textmill up` makes it, and the doors of API, worker, dispatcher and owner to it."""
    home = Home(folder)
    home.prepare()
    LocalKeyFile.create(home.path / "keys" / "kek.json")
    passwords = {role: uuid.uuid4().hex for role in Role}
    for role, password in passwords.items():
        write_private(home.path / "secrets" / f"db-{role.value}", password)
    postgres = EmbeddedPostgres(home.path)
    postgres.start()
    try:
        bootstrap(postgres.superuser_url(), passwords, DATABASE)
        migrate(_owner_url(postgres, passwords))
        settings = StoreSettings(home=home.path, database_url=postgres.address(DATABASE))
        stores = {role: open_store(settings, role, pool_size=2) for role in (Role.API, Role.WORKER, Role.DISPATCHER, Role.OWNER)}
        try:
            yield stores
        finally:
            for store in stores.values():
                store.close()
    finally:
        postgres.stop(hurry=True)


def _owner_url(postgres: EmbeddedPostgres, passwords: dict[Role, str]) -> URL:
    login = {"username": Role.OWNER.login, "password": passwords[Role.OWNER]}
    return postgres.superuser_url(DATABASE).set(drivername="postgresql+psycopg", **login)  # type: ignore[arg-type]


def _pass(stores: dict[Role, Store], workload: Workload) -> tuple[int, dict[str, float]]:
    """(shards, rows a second by step) of one file and one job over it."""
    api, worker, dispatcher = stores[Role.API], stores[Role.WORKER], stores[Role.DISPATCHER]
    actor = Actor(create_tenant(api, "benchmark"), uuid.uuid4(), None, SCOPES)
    bodies = [msgspec.json.encode({"input": text, "model": ENCODER, "labels": LABELS}) for text in workload.texts]
    rows = [NewRow(at + 1, None, None, f"row-{at}", body, len(body)) for at, body in enumerate(bodies)]
    answer = msgspec.json.encode({"label": LABELS[0], "scores": dict.fromkeys(LABELS, 0.2), "model_version": "none"})
    seconds: dict[str, float] = {}

    def timed_step(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = step()
        seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began
        return result

    def write_in() -> Any:
        writer = RowWriter(api, actor, create_file(api, actor, name="benchmark", purpose="batch"))
        for first in range(0, len(rows), APPEND_ROWS):
            writer.append(rows[first : first + APPEND_ROWS])
        return writer.finish(sum(map(len, bodies)))

    file = timed_step("in", write_in)
    spec: dict[str, Any] = {"defaults": {}}
    job = create_job(api, actor, NewJob("classify", "/v1/classifications", file.file_id, ENCODER, spec, None, 0, timedelta(days=1)))
    shard_seconds = load(DispatcherSettings).shard_seconds
    size = shard_chars(ENCODER, "classify", seconds=shard_seconds, measured={})
    timed_step("cut", lambda: cut_validating_jobs(dispatcher, lambda _model, _task: size))
    shards = 0
    while leases := timed_step("claim", lambda: claim_any(worker, "benchmark:1", 1)):
        (lease,) = leases
        opened = timed_step("open", partial(open_shard, worker, lease))
        results = [WorkRow(row.idx, payload=answer, input_tokens=50) for row in opened.rows]
        timed_step("write", partial(write_results, worker, lease, results, finish=True, model_version="none", metrics=None))
        shards += 1
    read = timed_step("out", lambda: sum(1 for _ in iter_results(api, actor, job.job_id, which="output")))
    assert read == len(rows), f"{read} of {len(rows)} rows came out"
    return shards, {name: len(rows) / taken for name, taken in seconds.items()}


@contextmanager
def timed() -> Iterator[Spent]:
    """Every call of the sealer and of the audit's recording is timed while the block runs; a call within another counts once."""
    spent = Spent()
    depth = 0

    def timer(call: Callable[..., Any], clock: Callable[[], float], name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal depth
            if depth:
                return call(*arguments, **options)
            depth += 1
            began = clock()
            try:
                return call(*arguments, **options)
            finally:
                setattr(spent, f"{name}_seconds", getattr(spent, f"{name}_seconds") + clock() - began)
                setattr(spent, f"{name}_calls", getattr(spent, f"{name}_calls") + 1)
                depth -= 1

        return wrapped

    put_back: list[tuple[object, str, object]] = []

    def put(owner: object, name: str, value: object) -> None:
        put_back.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    for name in SEALING:
        put(Sealer, name, timer(getattr(Sealer, name), time.thread_time, "sealing"))
    wrapped = {call: timer(call, time.perf_counter, "audit") for call in AUDIT}
    for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("db.")]:
        for name, value in list(vars(module).items()):
            if callable(value) and value in AUDIT:
                put(module, name, wrapped[value])
    try:
        yield spent
    finally:
        for owner, name, value in reversed(put_back):
            setattr(owner, name, value)
