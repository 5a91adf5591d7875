"""The Celery app: one task, whose message is a claim check ``{shard_id, epoch}``.

A message is a wake-up hint. Lost, doubled, late, reordered or forged ones are normal; leases in Postgres decide who works. So: early ack
(late acks bring back only their bugs), no results, no retry, no countdown. JSON is the only content type taken or sent.

Light: neither torch nor the store is imported here. The worker process says what the task does with :func:`run_with`; elsewhere
(dispatcher, Flower, API) the task is only a name.
"""

import logging
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from celery import Celery

from db.settings import StoreSettings, load

RUN_SHARD: Final = "textmill.run_shard"
QUEUE: Final = "shards"

log = logging.getLogger("textmill.app")

app = Celery("textmill", set_as_current=False)
app.conf.update(
    # JSON only, in every direction: a pickle in Redis stays bytes.
    task_serializer="json",
    result_serializer="json",
    event_serializer="json",
    accept_content=["json"],
    result_accept_content=["json"],
    # Leases rule: nothing here may re-run, delay or remember a shard.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    result_backend=None,
    task_publish_retry=False,  # the dispatcher offers a shard again; a retry inside a publish only stalls its loop
    task_default_queue=QUEUE,
    task_create_missing_queues=False,
    task_routes={RUN_SHARD: {"queue": QUEUE}},
    task_compression=None,
    # The worker takes a message only when a thread is free for it; the backlog stays in Postgres.
    worker_pool="threads",
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_enable_prefetch_count_reduction=False,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_soft_shutdown_timeout=25.0,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # Flower sees workers and shards by events.
    worker_send_task_events=True,
    task_send_sent_event=False,
    task_track_started=False,
    # Redis may be away at start, later, and for long.
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    broker_connection_timeout=4.0,
    broker_transport_options={
        "socket_connect_timeout": 4.0,
        "socket_timeout": 10.0,  # a half-open connection is noticed, not waited for
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry_on_timeout": False,
        "max_retries": 0,  # of a connect inside a publish: the dispatcher has its own pause
        "visibility_timeout": 3600,  # acks are early: nothing stays unacknowledged that long
    },
    enable_utc=True,
)


_settings: StoreSettings | None = None


def connect(settings: StoreSettings) -> None:
    """Takes the broker's address from these settings; without a call, from the environment when Celery first asks."""
    global _settings
    _settings = settings
    if app.configured:
        app.conf.broker_url = settings.broker_url()


def _broker() -> dict[str, Any]:
    return {"broker_url": (_settings or load(StoreSettings)).broker_url()}


app.add_defaults(_broker)

_runner: Callable[[UUID, int], None] | None = None


def run_with(runner: Callable[[UUID, int], None] | None) -> None:
    """Sets what a message does in this process. ``runner`` must not raise: what Celery reports of an exception leaves the process."""
    global _runner
    _runner = runner


def _run_shard(*args: object, **kwargs: object) -> None:
    """A message: looks at it, and claims. Anything but ``{shard_id: uuid, epoch: int}`` is dropped."""
    check = read_claim_check(args, kwargs)
    if check is None:
        log.warning("dropped a message that is not a claim check")
    elif _runner is not None:
        _runner(*check)


# Without events of its own: what a worker claims is told by workers.host.telling.
run_shard: Any = app.task(name=RUN_SHARD, ignore_result=True, acks_late=False, max_retries=0, typing=False, send_events=False)(_run_shard)


def read_claim_check(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[UUID, int] | None:
    if args or kwargs.keys() != {"shard_id", "epoch"}:
        return None
    shard_id, epoch = kwargs["shard_id"], kwargs["epoch"]
    if not isinstance(shard_id, str) or len(shard_id) not in {32, 36} or type(epoch) is not int or not 0 <= epoch < 2**31:
        return None
    try:
        return UUID(shard_id), epoch
    except ValueError:
        return None
