"""A worker that is struck among others that live: what it held, when somebody went on with it, and what was done again.

Everybody is up before there is work, so that no start-up is taken for a recovery. The others hold their leases for longer than the one
that is struck: a busy machine must not look like a second fault.
"""

import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import redis
from sqlalchemy import Row, func, select

from db.actors import Actor
from db.audit.reading import list_events
from db.process_names import pid_of
from db.schema import results
from tests.faults.counters import Load
from tests.faults.house import FAST, LONG_LEASE, MATRIX_ROWS, House, Process
from tests.looking import on_record
from workers.engines.fake import digest_of, read_calls

LEASE_SECONDS: Final = float(FAST["TEXTMILL_LEASE_SECONDS"])
POLL_SECONDS: Final = float(FAST["TEXTMILL_POLL_SECONDS"])
MARGIN_SECONDS: Final = 5.0  # of every bound on a recovery: the machine may be busy
BATCH_ROWS: Final = 64  # of the matrix; the fake model's batches are smaller
DELAY_MS: Final = 2.0  # of the model, a row


@dataclass(frozen=True, slots=True)
class Hold:
    """A shard as a worker held it. ``done``: rows that had their outcome."""

    job_id: UUID
    actor: Actor
    shard_id: UUID
    first_idx: int
    end_idx: int
    epoch: int
    done: int

    @property
    def open_rows(self) -> int:
        return self.end_idx - self.first_idx - self.done


@dataclass(frozen=True, slots=True)
class Struck:
    """``at``: when the fault was over, by the monotonic clock."""

    loads: Sequence[Load]
    victim: Process
    at: float
    holds: Sequence[Hold]

    @property
    def open_rows(self) -> int:
        return sum(hold.open_rows for hold in self.holds)


def strike(
    house: House,
    fault: str,
    *,
    rows: int = MATRIX_ROWS,
    at: int = 1,
    survivors: int = 2,
    delay_ms: float = DELAY_MS,
    victim: Mapping[str, str] | None = None,
    others: Mapping[str, str] = LONG_LEASE,
    dispatcher: Mapping[str, str] | None = None,
) -> Struck:
    """Until the broken worker has died, of its ``at``-th occasion, in the middle of the matrix's load."""
    loads = prepare(house, rows)
    broken = house.start_broken_worker(fault, delay_ms=delay_ms, port=house.free_port(), FAULT_AT=str(at), **(victim or {}))
    wait_up(house, [broken, *crew(house, survivors, delay_ms=delay_ms, **others)])
    house.start_dispatcher(port=None, **(dispatcher or {}))
    house.wait_for(lambda: not broken.alive, f"{fault} strikes")
    return struck(house, broken, loads)


def struck(house: House, victim: Process, loads: Sequence[Load]) -> Struck:
    now = time.monotonic()
    return Struck(loads, victim, now, held_by(house, victim.popen.pid, loads))


def prepare(house: House, rows: int) -> list[Load]:
    empty_broker(house)
    return house.load_all(rows)


def empty_broker(house: House) -> None:
    """Without the messages of an earlier test."""
    with redis.Redis.from_url(house.broker_url) as client:
        client.flushall()


def crew(house: House, size: int, *, delay_ms: float, **environment: str) -> list[Process]:
    return [house.start_worker(delay_ms=delay_ms, port=house.free_port(), **environment) for _ in range(size)]


def wait_up(house: House, workers: Sequence[Process]) -> None:
    house.wait_for(lambda: all(map(is_up, workers)), "the workers are up")


def is_up(worker: Process) -> bool:
    """It has looked for work: that is the last thing to begin."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.metrics_port}/metrics", timeout=5) as answer:
            return b"textmill_claims_total{" in answer.read()
    except OSError:
        return False


# Shards.


def shards_of(house: House, loads: Sequence[Load]) -> list[tuple[Load, Row[Any]]]:
    return [(load, shard) for load in loads for shard in house.shards(load.job_id, load.actor)]


def held_by(house: House, pid: int, loads: Sequence[Load]) -> list[Hold]:
    return [
        Hold(load.job_id, load.actor, shard.shard_id, shard.first_idx, shard.end_idx, shard.epoch, _done(shard))
        for load, shard in shards_of(house, loads)
        if shard.state == "leased" and pid_of(shard.worker) == pid
    ]


def _done(shard: Row[Any]) -> int:
    return int(shard.completed_count + shard.failed_count)


def seconds_to_progress(house: House, struck: Struck, timeout_seconds: float = 40) -> float:
    """Until a row of a shard that the victim held has got its outcome from somebody else."""
    was_done = {hold.shard_id: hold.done for hold in struck.holds}

    def progressed() -> bool:
        now = [shard for _load, shard in shards_of(house, struck.loads) if shard.shard_id in was_done]
        return any(_done(shard) > was_done[shard.shard_id] for shard in now)

    house.wait_for(progressed, "somebody goes on with a shard of the one that died", timeout_seconds)
    return time.monotonic() - struck.at


def seconds_to_any_progress(house: House, struck: Struck) -> float:
    open_rows = house.open_rows(struck.loads)
    house.wait_for(lambda: house.open_rows(struck.loads) < open_rows or open_rows == 0, "somebody goes on")
    return time.monotonic() - struck.at


def crash_attempts(house: House, loads: Sequence[Load]) -> int:
    return sum(shard.crash_attempts for _load, shard in shards_of(house, loads))


def stored_rows(house: House, hold: Hold, *, epoch: int | None = None) -> int:
    """Rows of this shard in the store; of one epoch's writer, where one is given."""
    query = select(func.count()).where(results.c.job_id == hold.job_id, results.c.idx >= hold.first_idx, results.c.idx < hold.end_idx)
    if epoch is not None:
        query = query.where(results.c.epoch == epoch)
    with on_record(house.api, hold.actor.tenant_id) as conn:
        return int(conn.execute(query).scalar_one())


def reads(house: House, loads: Sequence[Load]) -> int:
    """Events that say that rows were opened for work."""
    found = 0
    for load in loads:
        after: UUID | None = None
        while events := list_events(house.api, load.actor, limit=500, after=after, action="rows.read", object_id=load.job_id):
            found += len(events)
            after = events[-1].event_id
    return found


# Calls of the model.


def redone(house: House, pid: int, loads: Sequence[Load]) -> int:
    """Rows that this process asked the model about, and another one did as well."""
    known = {digest_of(text) for load in loads for text in load.texts}
    its: set[str] = set()
    others: set[str] = set()
    for call in read_calls(house.calls):
        (its if call.pid == pid else others).update(call.digests)
    return len(its & others & known)
