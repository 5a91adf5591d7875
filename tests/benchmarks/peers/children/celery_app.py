"""The tasks of the Celery peers, and their worker: `celery -A celery_app worker`. See celery_tasks.py.

Settings are those that Celery's documentation tells for many short tasks: JSON, early acknowledgement, a long prefetch, results in Redis
and nothing else kept.
"""

import os
from pathlib import Path
from typing import Any

from celery import Celery, signals
from celery_batches import Batches
from serving import load_prototypes, nearest

FLUSH_EVERY = 32
FLUSH_SECONDS = 0.2  # only the last batch waits for it

DATABASES = {"batches": 1, "single": 2, "null": 3}  # several of these peers share one broker; each must get its own tasks only
URL = f"{os.environ['PEER_REDIS_URL'].rpartition('/')[0]}/{DATABASES[os.environ['PEER_TASK']]}"

app = Celery("peer", broker=URL, backend=URL)
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=4 * FLUSH_EVERY,  # celery-batches gathers its batches out of what is prefetched
    task_acks_late=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    result_expires=600,
    worker_proc_alive_timeout=120,  # loading the model takes longer than the 4 s a new process is given else
    broker_connection_retry_on_startup=True,
)

_pipe: Any = None
_prototypes: Any = None


@signals.worker_process_init.connect
def _open(**_: Any) -> None:
    """In each child of the worker, before its first task. No model where the tasks need none."""
    global _pipe, _prototypes
    if os.environ["PEER_TASK"] == "null":
        return
    from pipeline_fp32 import make_pipeline

    _pipe = make_pipeline(os.environ["PEER_MODEL"], 1)
    _prototypes = load_prototypes(Path(os.environ["PEER_PROTOTYPES"]))
    _label(["a text to warm up with"])


def _label(texts: list[str]) -> list[int]:
    import numpy as np

    return nearest(np.stack(list(_pipe(texts))), _prototypes)


@app.task(name="batches", base=Batches, flush_every=FLUSH_EVERY, flush_interval=FLUSH_SECONDS)
def batches(requests: Any) -> None:
    labels = _label([request.args[0] for request in requests])
    for request, label in zip(requests, labels, strict=True):
        app.backend.mark_as_done(request.id, label, request=request)


@app.task(name="single")
def single(text: str) -> int:
    return _label([text])[0]


@app.task(name="null")
def null(text: str) -> int:
    return 0
