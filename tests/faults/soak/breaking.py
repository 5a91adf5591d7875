"""Gives the faults, on the main thread, for it starts servers. Those that last (a frozen process, a locked table) end on another."""

import json
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from uuid import UUID, uuid4

import psycopg
import redis
from kombu.connection import Connection
from psycopg import sql

from db.connect import Store
from db.errors import Conflict, NotFound
from db.files import files
from db.jobs import jobs, steering
from tests.faults.counters import Load
from tests.faults.soak.keeping import DISPATCHER, WORKERS, Keeper
from tests.faults.soak.ledger import Ledger
from tests.faults.soak.patience import patiently, patiently_once
from tests.faults.soak.plan import Fault, Kind
from tests.faults.soak.servers import Servers
from tests.faults.soak.watching import Watch
from workers.app import QUEUE, RUN_SHARD

LOCK_SECONDS: Final = 6.0
PAUSE_SECONDS: Final = 5.0
LOCKED_TABLES: Final = ("results", "shards", "rows", "jobs", "audit_events")
MAX_AWAY_SECONDS: Final = 2.0
TIMES_DOUBLED: Final = 5
BROKEN_MESSAGES: Final = ("not json", "{}", "[]", "", json.dumps({"body": "x", "properties": {}}), "\x80\x04.")

LEFT: Final = """
    SELECT (SELECT count(*) FROM jobs WHERE job_id = ANY(%(jobs)s)) + (SELECT count(*) FROM job_specs WHERE job_id = ANY(%(jobs)s))
         + (SELECT count(*) FROM shards WHERE job_id = ANY(%(jobs)s)) + (SELECT count(*) FROM results WHERE job_id = ANY(%(jobs)s))
         + (SELECT count(*) FROM data_keys WHERE owner_kind = 'job' AND owner_id = ANY(%(jobs)s))
    """
CUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^textmill-(worker|dispatcher)'"


LASTING: Final = frozenset({Kind.FREEZE_WORKER, Kind.LOCK_TABLE, Kind.PAUSE_JOB})


class Breaker:
    """``freeze_seconds``: longer than a lease. ``deleted``: the jobs of which nothing may be left."""

    def __init__(self, servers: Servers, keeper: Keeper, ledger: Ledger, watch: Watch, api: Store, *, freeze_seconds: float) -> None:
        self._servers = servers
        self._keeper = keeper
        self._ledger = ledger
        self._watch = watch
        self._api = api
        self._freeze_seconds = freeze_seconds
        self._ending = threading.Event()  # what lasts is cut short
        self._lasting: list[threading.Thread] = []
        self.deleted: list[UUID] = []
        self._ways: dict[Kind, Callable[[Fault], str | None]] = {
            Kind.KILL_WORKER: self._kill_worker,
            Kind.FREEZE_WORKER: self._freeze_worker,
            Kind.DRAIN_WORKER: self._drain_worker,
            Kind.KILL_DISPATCHER: self._kill_dispatcher,
            Kind.FLUSH_QUEUE: self._flush_queue,
            Kind.RESTART_QUEUE: self._restart_queue,
            Kind.POISON_QUEUE: self._poison_queue,
            Kind.CUT_CONNECTIONS: self._cut_connections,
            Kind.RESTART_STORE: lambda _: self._restart_store(signal.SIGINT),
            Kind.CRASH_STORE: lambda _: self._restart_store(signal.SIGQUIT),
            Kind.KILL_STORE: lambda _: self._restart_store(signal.SIGKILL),
            Kind.LOCK_TABLE: self._lock_table,
            Kind.CANCEL_JOB: self._cancel_job,
            Kind.PAUSE_JOB: self._pause_job,
            Kind.RETRY_JOB: self._retry_job,
            Kind.DELETE_JOB: self._delete_job,
        }

    def give(self, fault: Fault) -> str | None:
        """Returns once it is given, and over unless it lasts, with a word about it. None where there was nothing to break."""
        done = self._ways[fault.kind](fault)
        if done is not None and fault.kind not in LASTING:
            self._watch.broke(fault.kind)
        return done

    def end(self) -> None:
        """Nothing lasts any longer."""
        self._ending.set()
        for thread in self._lasting:
            thread.join()

    # Processes

    def _kill_worker(self, fault: Fault) -> str:
        self._keeper.kill(_one_of(WORKERS, fault.draw))
        return "killed"

    def _freeze_worker(self, fault: Fault) -> str:
        process = self._keeper.process(_one_of(WORKERS, fault.draw)).popen
        process.send_signal(signal.SIGSTOP)

        def thaw() -> None:
            self._ending.wait(self._freeze_seconds)
            process.send_signal(signal.SIGCONT)

        self._last(fault.kind, thaw)
        return "frozen"

    def _drain_worker(self, fault: Fault) -> str:
        self._keeper.drain(_one_of(WORKERS, fault.draw))
        return "told"

    def _kill_dispatcher(self, _fault: Fault) -> str:
        self._keeper.kill(DISPATCHER)
        return "killed"

    # The queue

    def _flush_queue(self, _fault: Fault) -> str:
        with redis.Redis.from_url(self._servers.valkey.url) as client:
            client.flushall()
        return "flushed"

    def _restart_queue(self, fault: Fault) -> str:
        self._servers.restart_valkey(fault.draw * MAX_AWAY_SECONDS)
        return "restarted"

    def _poison_queue(self, _fault: Fault) -> str:
        url = self._servers.valkey.url
        with redis.Redis.from_url(url) as client:
            waiting: Any = client.lrange(QUEUE, 0, -1)
            for message in (*waiting * TIMES_DOUBLED, *BROKEN_MESSAGES):
                client.lpush(QUEUE, message)
        check = {"shard_id": str(uuid4()), "epoch": 1}
        with Connection(url) as connection, connection.Producer(serializer="json") as producer:
            for body, headers in (
                ([[], check, {}], {"task": RUN_SHARD, "id": str(uuid4())}),  # of a shard that does not exist
                ([[], {**check, "epoch": -1}, {}], {"task": RUN_SHARD, "id": str(uuid4())}),
                ([[], check, {"chain": [{"task": "other"}]}], {"task": RUN_SHARD, "id": str(uuid4())}),
                ([[], check, {}], {"task": RUN_SHARD, "id": str(uuid4()), "eta": "2099-01-01T00:00:00"}),
                ([[], check, {}], {"task": "os.system", "id": str(uuid4())}),
                ({"task": RUN_SHARD, "id": "1", "args": [], "kwargs": check}, {}),
            ):
                producer.publish(body, routing_key=QUEUE, headers=headers)
        return "poisoned"

    # The store

    def _cut_connections(self, _fault: Fault) -> str:
        with self._servers.superuser() as connection:
            return f"{connection.execute(CUT).rowcount} cut"

    def _restart_store(self, number: signal.Signals) -> str:
        self._servers.restart_postgres(number)
        return number.name

    def _lock_table(self, fault: Fault) -> str:
        table = _one_of(LOCKED_TABLES, fault.draw)

        def hold() -> None:
            # Another fault may end Postgres, and the lock with it.
            with suppress(psycopg.Error), self._servers.superuser() as connection:
                connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(table)))
                self._ending.wait(LOCK_SECONDS)

        self._last(fault.kind, hold)
        return table

    # What an operator does

    def _cancel_job(self, fault: Fault) -> str | None:
        for sent in self._ledger.cancellable(fault.draw):
            load = sent.load
            try:
                patiently(lambda load=load: steering.cancel_job(self._api, load.actor, load.job_id))  # type: ignore[misc]
            except (Conflict, NotFound):  # it has ended meanwhile
                continue
            return f"of {len(load.texts)} rows"
        return None

    def _pause_job(self, fault: Fault) -> str | None:
        for sent in self._ledger.pausable(fault.draw):
            load = sent.load
            try:
                patiently(lambda load=load: steering.pause_job(self._api, load.actor, load.job_id))  # type: ignore[misc]
            except (Conflict, NotFound):  # it has ended meanwhile
                continue

            def go_on(load: Load = load) -> None:
                self._ending.wait(PAUSE_SECONDS)
                with suppress(Conflict, NotFound):  # it was cancelled or deleted meanwhile
                    patiently(lambda: steering.resume_job(self._api, load.actor, load.job_id))

            self._last(fault.kind, go_on)
            return f"of {len(load.texts)} rows"
        return None

    def _retry_job(self, fault: Fault) -> str | None:
        for sent in self._ledger.retriable(fault.draw):
            load = sent.load
            if self._ledger.take(load.job_id) is None:
                continue
            patiently_once(lambda load=load: steering.retry_job(self._api, load.actor, load.job_id), Conflict)  # type: ignore[misc]
            self._ledger.put_back(replace(sent, cancellable=False, retried=True))
            return f"of {len(load.texts)} rows"
        return None

    def _delete_job(self, fault: Fault) -> str | None:
        for sent in self._ledger.deletable(fault.draw):
            load = sent.load
            if self._ledger.take(load.job_id) is None:
                continue
            job = patiently(lambda load=load: jobs.get_job(self._api, load.actor, load.job_id))  # type: ignore[misc]
            patiently_once(lambda load=load: steering.delete_job(self._api, load.actor, load.job_id), NotFound)  # type: ignore[misc]
            patiently_once(lambda load=load, job=job: files.delete_file(self._api, load.actor, job.file_id), NotFound)  # type: ignore[misc]
            self.deleted.append(load.job_id)
            return f"of {len(load.texts)} rows, {job.state}"
        return None

    def _last(self, kind: Kind, hold: Callable[[], None]) -> None:
        def lasting() -> None:
            hold()
            self._watch.broke(kind)

        thread = threading.Thread(target=lasting, name=kind.name)
        thread.start()
        self._lasting.append(thread)


def left_of(connection: "psycopg.Connection[Any]", deleted: Sequence[UUID]) -> int:
    """How many rows the store has still of jobs that were deleted."""
    found = connection.execute(LEFT, {"jobs": list(deleted)}).fetchone()
    assert found is not None
    return int(found[0])


def _one_of(names: Sequence[str], draw: float) -> str:
    return names[int(draw * len(names))]
