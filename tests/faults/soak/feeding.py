"""Brings jobs, steadily, so that there are always some 100,000 rows open and never all of them at once. One thread."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from db.actors import Actor
from db.connect import Store
from db.jobs.creating import NewJob, RequestRef, create_job
from tests.faults.counters import Load
from tests.faults.soak import plan
from tests.faults.soak.ledger import Ledger, Sent
from tests.faults.soak.patience import patiently
from tests.faults.soak.plan import JobPlan
from tests.workers.submitting import DEFAULTS, ENDPOINTS, MODELS, row, upload

OPEN_ROWS: Final = 100_000
LOOK_SECONDS: Final = 0.25
TASK: Final = "classify"


@dataclass(frozen=True, slots=True)
class RealJob:
    """Texts for the real model with the labels that it must give; to be sent no sooner than ``due`` (time.monotonic)."""

    due: float
    texts: Sequence[str]
    answers: Sequence[str]


@dataclass(frozen=True, slots=True)
class RealModel:
    name: str
    defaults: Mapping[str, object]


def send(store: Store, actor: Actor, texts: Sequence[str], *, model: str, defaults: Mapping[str, object], priority: int = 0) -> UUID:
    """A file and a job over it, by a client that asks again: an upload that was cut off is begun anew, a job is made once."""
    rows = [row(at, {"input": one}) for at, one in enumerate(texts)]
    file_id = patiently(lambda: upload(store, actor, rows))
    new = NewJob(
        task=TASK,
        endpoint=ENDPOINTS[TASK],
        file_id=file_id,
        model=model,
        spec={"defaults": dict(defaults)},
        metadata=None,
        priority=priority,
        completion_window=timedelta(seconds=86_400),
        request=RequestRef(secrets.token_bytes(32), b""),
    )
    return patiently(lambda: create_job(store, actor, new, find_twin=True)).job_id


class Feeder:
    """``open_rows`` says how many there are."""

    def __init__(
        self,
        store: Store,
        tenants: Sequence[Actor],
        ledger: Ledger,
        jobs: Iterator[JobPlan],
        open_rows: Callable[[], int],
        real_model: RealModel,
        real_jobs: Sequence[RealJob],
    ) -> None:
        self._store = store
        self._tenants = tenants
        self._ledger = ledger
        self._jobs = jobs
        self._open_rows = open_rows
        self._real_model = real_model
        self._real_jobs = sorted(real_jobs, key=lambda job: job.due)

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; what is due of the real model by then, too."""
        while not stop.is_set():
            self._send_real(time.monotonic())
            if patiently(self._open_rows) < OPEN_ROWS:
                self._send_next()
            else:
                stop.wait(LOOK_SECONDS)
        self._send_real(float("inf"))

    def _send_next(self) -> None:
        job = next(self._jobs)
        texts = plan.texts_of(job)
        actor = self._tenants[job.tenant]
        job_id = send(self._store, actor, texts, model=MODELS[TASK], defaults=DEFAULTS[TASK], priority=job.priority)
        self._ledger.add(Sent(Load(job_id, actor, texts, plan.failures_of(job)), job.small))

    def _send_real(self, until: float) -> None:
        while self._real_jobs and self._real_jobs[0].due <= until:
            job = self._real_jobs.pop(0)
            actor = self._tenants[len(self._real_jobs) % len(self._tenants)]
            job_id = send(self._store, actor, job.texts, model=self._real_model.name, defaults=self._real_model.defaults)
            self._ledger.add(Sent(Load(job_id, actor, job.texts, answers=job.answers), cancellable=False))
