"""The main function of a worker process: ``python -m workers.host.main [START]``, one per device.

It pins the device first, and only then imports what brings numpy and torch: CUDA, OpenMP and BLAS read their environment once.
"""

import logging
import os
import signal
import sys
from types import FrameType
from typing import Final

from celery import signals
from celery.worker.control import Panel

from db.connect import ensure_key
from db.process_names import own_name
from db.server.versions import ensure_current
from db.settings import Role, load
from workers import app as messages
from workers import logs
from workers.host.device import describe, pin
from workers.settings import WorkerSettings

# What a writer to Redis may ask of a worker: to be looked at (Flower does), nothing else.
READ_ONLY_COMMANDS: Final = {
    "ping",
    "stats",
    "active",
    "reserved",
    "scheduled",
    "registered",
    "active_queues",
    "report",
    "clock",
    "conf",
    "heartbeat",
    "enable_events",
}

log = logging.getLogger("textmill.worker")


def main(start: str | None = None) -> int:
    """``start``: what tells this process from others of its name, where a supervisor drew it to know whose leases to free."""
    logs.set_up()
    signal.signal(signal.SIGTERM, _end_at_once)  # until the process has something to drain
    settings = load(WorkerSettings)
    ensure_current(settings.database_url_for(Role.WORKER))
    ensure_key(settings, Role.WORKER)
    pinned = pin(settings.device, settings.lanes, share=settings.share)
    log.info("device: %s", describe(pinned))
    settings = settings.model_copy(update={"device": pinned.device})
    messages.connect(settings)
    signals.setup_logging.connect(_leave_logging_alone)
    for command in set(Panel.data) - READ_ONLY_COMMANDS:
        del Panel.data[command]

    from workers.host.process import Worker

    return Worker(settings, own_name(start)).run()


def _end_at_once(_signal: int, _frame: FrameType | None) -> None:
    """Not by an exception: a signal may arrive where Python ignores those, in a finalizer of the imports say, and would be lost."""
    os._exit(0)


def _leave_logging_alone(**_: object) -> None:
    """A receiver makes Celery skip its own logging set-up."""


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:2]))
