"""What it costs that nothing is lost and nothing is unseen: the null model with and without heartbeats, fences and audit, in turns.

`python -m tests.benchmarks.guards [--rows N] [--turns N] [--report FILE]`, some nine minutes. One worker's parts in this process, on a
Postgres that is as durable as `textmill up` makes it: the shards of a job from the claim to the last write. Without guards no lease is
renewed, nothing is recorded, no policy asks for a record, and a write asks neither whose the shard is nor whether a row is there already;
that is for comparison only.

A pair of turns a second apart differs by a tenth of its time on a shared machine, which is more than what is looked for. So there are many
short pairs; the cost is their trimmed mean, told with the interval that it lies in 95 times of 100 (the percentile bootstrap: Efron, 1979),
and it passes or misses where that interval lies wholly on one side of the goal. A short turn would see no heartbeat: they come ten times
as often as by default.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from db.actors import Actor
from db.audit import acts, events
from db.connect import Store
from db.operators.api_keys import SCOPES
from db.operators.tenants import create_tenant
from db.queue import results, shards
from db.queue.dispatch import cut_validating_jobs
from db.settings import Role
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.nothing_asked import nothing_asked
from tests.benchmarks.store_only import durable_stores
from tests.benchmarks.watching import cpu_seconds
from tests.workers.submitting import row, submit
from workers.claims.lease import LeaseKeeper
from workers.host.watchdog import Watchdog
from workers.inference.runtime import Runtime
from workers.settings import WorkerSettings
from workers.shard.life import End, ShardLife

GOAL: Final = 0.05
HEARTBEAT_SECONDS: Final = 0.5
TRIMMED: Final = 0.1  # of the pairs, at either end
DRAWS: Final = 2_000  # of the bootstrap
SHARD_CHARS: Final = 400_000
WORKER: Final = "guards:1"
_UNFENCED_SHARD: Final = """
    SELECT s.first_idx, s.end_idx, s.state, s.epoch, s.crash_attempts, s.error_attempts, s.last_error, s.completed_count, s.failed_count,
           s.input_tokens, s.output_tokens, s.metrics, j.state AS job_state, NULL::float8 AS not_before,
           true AS unexpired, 0.0::float8 AS now
    FROM shards s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.job_id = s.job_id
    WHERE s.tenant_id = :tenant AND s.shard_id = :shard
    """
_UNFENCED_MOVE: Final = """
    INSERT INTO results (tenant_id, job_id, idx, outcome, code, payload_sealed, model_version, input_tokens, output_tokens, epoch)
    SELECT :tenant, :job, n.idx, n.outcome, n.code, n.payload_sealed, :version, n.input_tokens, n.output_tokens, :epoch
    FROM pg_temp.staged_results n
    """


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds from the first claim to the last write, and CPU seconds of the worker's parts and Postgres meanwhile."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """The turns in pairs. Shares of throughput that the guards take: ``cost``, and ``low`` and ``high``, between which it lies."""

    rows: int
    guarded: Sequence[Turn]
    bare: Sequence[Turn]

    @property
    def cost(self) -> float:
        return share_taken(self._logs(lambda turn: turn.seconds))

    @property
    def cpu_cost(self) -> float:
        """The same of CPU time, which waits for the disk and for other machines' work do not touch."""
        return share_taken(self._logs(lambda turn: turn.cpu_seconds))

    @property
    def interval(self) -> tuple[float, float]:
        return interval_of(self._logs(lambda turn: turn.seconds))

    def _logs(self, of: Callable[[Turn], float]) -> list[float]:
        return [math.log(of(guarded) / of(bare)) for guarded, bare in zip(self.guarded, self.bare, strict=True)]

    @property
    def told(self) -> str:
        low, high = self.interval
        verdict = "pass" if high <= GOAL else "MISS" if low > GOAL else "inconclusive"
        rates = [statistics.median(self.rows / turn.seconds for turn in turns) for turns in (self.guarded, self.bare)]
        return (
            f"heartbeats, fences and audit cost {self.cost:.1%} ({low:.1%} to {high:.1%}) of the null model's throughput "
            f"(goal ≤ {GOAL:.0%}: {verdict}), {self.cpu_cost:.1%} of its CPU time; {rates[0]:,.0f} rows/s with, {rates[1]:,.0f} "
            f"without, {len(self.bare)} pairs of turns of {self.rows:,} rows"
        )


def share_taken(logs: Sequence[float]) -> float:
    """Of throughput, from the logarithms of how much longer each turn took than its other half."""
    cut = int(len(logs) * TRIMMED)
    return 1 - math.exp(-statistics.mean(sorted(logs)[cut : len(logs) - cut]))


def interval_of(logs: Sequence[float]) -> tuple[float, float]:
    drawn = random.Random(0)
    found = sorted(share_taken(drawn.choices(logs, k=len(logs))) for _ in range(DRAWS))
    return found[int(DRAWS * 0.025)], found[int(DRAWS * 0.975)]


def measure(folder: Path, rows: int, turns: int) -> Cost:
    guarded: list[Turn] = []
    bare: list[Turn] = []
    with durable_stores(folder) as stores:
        worker = _Worker(stores, folder)
        try:
            worker.run(rows // 4)  # everything is warm from here on
            for turn in range(turns):
                for without in (False, True) if turn % 2 == 0 else (True, False):
                    if without:
                        with nothing_asked(stores[Role.OWNER]), unguarded():
                            bare.append(worker.run(rows))
                    else:
                        with worker.heartbeats():
                            guarded.append(worker.run(rows))
        finally:
            worker.close()
    return Cost(rows, guarded, bare)


class _Worker:
    """One worker's parts, and jobs for it."""

    def __init__(self, stores: dict[Role, Store], folder: Path) -> None:
        settings = WorkerSettings(home=folder, device="cpu", budget_tokens=65_536)
        self._stores = stores
        self._actor = Actor(create_tenant(stores[Role.API], "benchmark"), uuid.uuid4(), None, SCOPES)
        self._runtime = Runtime(settings)
        self._keeper = self._new_keeper()
        self._task = ShardLife(stores[Role.WORKER], self._runtime, self._keeper, Watchdog(1800).watch, settings, lambda: False)

    def _new_keeper(self) -> LeaseKeeper:
        return LeaseKeeper(self._stores[Role.WORKER], lease_seconds=30, heartbeat_seconds=HEARTBEAT_SECONDS, margin_seconds=5)

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        self._keeper = self._task._keeper = self._new_keeper()
        self._keeper.start()
        try:
            yield
        finally:
            self._keeper.stop()

    def run(self, rows: int) -> Turn:
        submit(self._stores[Role.API], self._actor, [row(at, {"input": f"document {at}, {uuid.uuid4()}"}) for at in range(rows)])
        cut_validating_jobs(self._stores[Role.DISPATCHER], lambda _model, _task: SHARD_CHARS)
        began, used = time.perf_counter(), _cpu_seconds()
        while leases := shards.claim_any(self._stores[Role.WORKER], WORKER):
            assert self._task.run(leases[0], self._keeper.now()) is End.DONE
        return Turn(time.perf_counter() - began, _cpu_seconds() - used)

    def close(self) -> None:
        self._runtime.close(drain=False)


def _cpu_seconds() -> float:
    return cpu_seconds({"all": os.getpid()})["all"]


@contextmanager
def unguarded() -> Iterator[None]:
    """Nothing is recorded, and writes are not fenced, while the block runs."""

    def nothing(*_: Any, **__: Any) -> uuid.UUID:
        return uuid.UUID(int=0)

    changes = [(shards, "_LOCK_LEASE", text(_UNFENCED_SHARD)), (results, "_MOVE", text(_UNFENCED_MOVE))]
    for module in [module for name, module in sorted(sys.modules.items()) if name.startswith("db.")]:
        for name, value in list(vars(module).items()):
            if value in (acts.record_act, acts.record_work, events.record, events.record_digest) and callable(value):
                changes.append((module, name, nothing))  # type: ignore[arg-type]
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.guards", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=240)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    os.environ["TEXTMILL_FAKE_ENGINE"] = "1"
    with tempfile.TemporaryDirectory(prefix="textmill-guards-", ignore_cleanup_errors=True) as folder:
        found = measure(Path(folder), options.rows, options.turns)
    if options.report is not None:
        low, high = found.interval
        summary = {"cost": found.cost, "low": low, "high": high, "cpu_cost": found.cpu_cost}
        report = {"benchmark": "guards", "machine": describe_machine(), **summary, **asdict(found)}
        options.report.write_text(json.dumps(report, indent=2) + "\n")
    print(found.told)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
