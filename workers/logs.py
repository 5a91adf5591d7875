"""Logs and crash reports of the machine room's processes: nothing that came from a row or a message may end in them.

An exception's message may quote its input (a decoder's does), so an exception that reaches the top is told by type and place only. Celery
prints the body of messages it does not know; here it does not.
"""

import contextlib
import faulthandler
import logging
import resource
import sys
import threading
from types import TracebackType
from typing import Final

from db.errors import TextmillError

# Celery's own lines that may be filled in: the broker's address (its password masked) and why it cannot be reached.
TRUSTED: Final = ("consumer: Cannot connect to %s", "%s (%r)")

log = logging.getLogger("textmill")


class WithoutContent(logging.Filter):
    """Lets a line of Celery or kombu pass as the constant it was written as: neither filled in nor with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in {"celery", "kombu"}:
            return True
        if record.exc_info and record.exc_info[0] is not None:
            record.msg, record.args = f"{_first_line(record.msg)} [{record.exc_info[0].__name__}]", None
        elif record.args and not str(record.msg).startswith(TRUSTED):
            record.msg, record.args = _first_line(record.msg), None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _first_line(template: object) -> str:
    return next((line for line in str(template).splitlines() if line.strip()), "")


def set_up(level: int = logging.INFO) -> None:
    """For the main function of a process. No core dump is left behind: it would hold opened rows."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(WithoutContent())
    logging.basicConfig(level=level, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for library in ("celery", "kombu"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # Celery's advice against settings we chose; and a warning may quote anything
    sys.excepthook = _report
    threading.excepthook = _report_thread
    faulthandler.enable()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def place_of(error: BaseException) -> str:
    """``shard_task.py:120``: the innermost place of our own code in the traceback, for a log line."""
    found = "?"
    frame = error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if "/db/" in name or "/workers/" in name:
            found = f"{name.rpartition('/')[2]}:{frame.tb_lineno}"
        frame = frame.tb_next
    return found


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    if isinstance(error, TextmillError):  # its message is written for people and holds no content
        log.critical("%s", error.message)
    else:
        log.critical("ended by %s at %s", kind.__name__, place_of(error))


def _report_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is not None:
        log.critical(
            "thread %s ended by %s at %s", hook.thread.name if hook.thread else "?", hook.exc_type.__name__, place_of(hook.exc_value)
        )
