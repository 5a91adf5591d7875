"""A stack to measure: all of `textmill up` in an own home, and a job sent through it from the first byte to the last result read."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import text

from api.client import Client
from api.demo.stack import Stack
from api.local import detach
from api.local.home.home import Home
from api.local.up import UpOptions
from api.wire import Batch
from db.connect import open_store
from db.operators.api_keys import create_api_key
from db.operators.tenants import create_tenant
from db.settings import Role, StoreSettings
from tests.benchmarks.watching import cpu_seconds

ENCODER: Final = "minilm-l6-v2"
NULL_MODEL: Final = "fake-encoder"
# The null model's tokens are bytes, so the encoder's budget of a thousand tokens would be batches of five texts.
NULL_ENVIRONMENT: Final = {"TEXTMILL_FAKE_ENGINE": "1", "TEXTMILL_BUDGET_TOKENS": "65536"}
TUNING: Final = frozenset(f"TEXTMILL_{name}" for name in ("DEVICE", "ENGINE", "DTYPE", "EXACT", "LANES", "THREADS", "BUDGET_TOKENS"))
SELDOM_SECONDS: Final = 0.5  # each look costs the API some 4 ms of CPU, which is the model's CPU here
OFTEN_SECONDS: Final = 0.05
SURELY: Final = 0.95  # of the time that the last such job took: none is expected to be faster
LIMIT_SECONDS: Final = 300.0
ENDED: Final = ("completed", "failed", "expired", "cancelled")


def own_environment() -> dict[str, str]:
    """Takes what the shell says of other servers and keys out of this process's environment. Returns what stays: how models are run."""
    for name in [name for name in os.environ if name.startswith("TEXTMILL_") and name not in TUNING]:
        del os.environ[name]
    return {name: os.environ[name] for name in sorted(TUNING & os.environ.keys())}


@contextmanager
def environment(**settings: str) -> Iterator[None]:
    """Set for the block, and for the processes that start in it."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True, slots=True)
class Mill:
    """A running stack. ``home`` is its folder; its client holds the local tenant's key."""

    home: Path
    stack: Stack
    client: Client
    settings: Mapping[str, str] = field(default_factory=dict)
    job_seconds: dict[tuple[str, int], float] = field(default_factory=dict)  # of the last job, by workload and size

    @property
    def children(self) -> dict[str, int]:
        return self.stack.children

    def cpu_seconds(self) -> dict[str, float]:
        """Of each part of the stack so far."""
        return cpu_seconds(self.children)

    def cpu_since(self, before: Mapping[str, float]) -> dict[str, float]:
        return {name: total - before.get(name, 0.0) for name, total in self.cpu_seconds().items()}

    def new_keys(self, count: int) -> list[str]:
        """One API key in each of so many new tenants."""
        with closing(open_store(StoreSettings(home=self.home), Role.API, pool_size=1)) as store:
            tenants = [create_tenant(store, f"tenant {number}") for number in range(count)]
            return [create_api_key(store, tenant, uuid4(), "benchmark", {"submit", "read"})[1] for tenant in tenants]

    @contextmanager
    def counts(self) -> Iterator["JobCounts"]:
        with closing(open_store(StoreSettings(home=self.home), Role.DISPATCHER, pool_size=1)) as store:
            yield JobCounts(store.engine)


@dataclass(frozen=True, slots=True)
class JobCounts:
    """Looks at the jobs of all tenants at once, which no API key may."""

    engine: object

    def open_jobs_and_rows(self) -> tuple[int, int]:
        """Jobs that have not ended; rows completed in all jobs."""
        with self.engine.begin() as connection:  # type: ignore[attr-defined]
            row = connection.execute(
                text("SELECT count(*) FILTER (WHERE NOT state = ANY(:ended)) AS open, coalesce(sum(completed_count), 0) AS rows FROM jobs"),
                {"ended": list(ENDED)},
            ).one()
        return int(row.open), int(row.rows)


def calibrate(model: str = ENCODER) -> None:
    """Finds out how this machine runs the model, for the home and in the bounds of the environment."""
    asked = [f"--{name.lower()}={os.environ[f'TEXTMILL_{name}']}" for name in ("ENGINE", "DTYPE") if f"TEXTMILL_{name}" in os.environ]
    subprocess.run([sys.executable, "-m", "api.cli", "calibrate", model, *asked], check=True)


@contextmanager
def running(home: Path, settings: Mapping[str, str], *, calibrated_in: Path | None = None, calibrated: bool = True) -> Iterator[Mill]:
    """A stack in ``home`` under these settings, stopped afterwards. ``calibrated_in``: a home whose findings about this machine it takes
    over, so that two stacks that are compared run their models alike. Where ``calibrated``, the encoder is so before, not beside the
    work."""
    found = None if calibrated_in is None else calibrated_in / "calibration"
    if found is not None and found.is_dir():
        shutil.copytree(found, home / "calibration", dirs_exist_ok=True)
    where = Home(home)
    with environment(TEXTMILL_HOME=str(home), **settings):
        if calibrated and "TEXTMILL_FAKE_ENGINE" not in settings:
            calibrate()
        stack = Stack(where, detach.start(where, UpOptions(port=0, flower_port=0)), started=True)
    try:
        with stack.connect() as client:
            yield Mill(home, stack, client, settings)
    finally:
        detach.stop(where, hurry=True)


def wait_ended(client: Client, batch: Batch, *, expected_seconds: float | None = None, limit_seconds: float = LIMIT_SECONDS) -> Batch:
    """Looks seldom at first and more often towards the end: a fixed pause would add half of itself to every time that is measured.

    The end is when the last such job had ended, where the caller knows; else it is estimated from how far the job is, which comes in steps
    of a chunk."""
    began = time.perf_counter()
    while not batch.ended:
        elapsed = time.perf_counter() - began
        assert elapsed < limit_seconds, f"a job is {batch.status} after {limit_seconds:.0f} s"
        share = batch.counts.done / batch.counts.total if batch.counts.total else 0.0
        end = expected_seconds or (elapsed / share if share else elapsed + SELDOM_SECONDS)
        left = SURELY * end - elapsed
        time.sleep(min(SELDOM_SECONDS, max(OFTEN_SECONDS, left / 3)))
        batch = client.batch(batch.id)
    assert batch.status == "completed", f"a job {batch.status}"
    return batch
