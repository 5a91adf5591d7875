import logging
import subprocess
import sys

import pytest

from workers.logs import WithoutContent

SECRET = "zebra-quartz-canary"


def record(name: str, template: str, *args: object, error: Exception | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    return logging.LogRecord(name, logging.ERROR, __file__, 1, template, args, exc_info)


@pytest.mark.parametrize(
    "line",
    [
        record("celery.worker.consumer.consumer", "\nReceived unregistered task of type %s.\nThe body: %s", "x", SECRET),
        record("celery.worker", "Unrecoverable error: %r", ValueError(SECRET), error=ValueError(SECRET)),
        record("kombu.transport", "bad %r", SECRET),
    ],
)
def test_a_line_of_celery_is_not_filled_in(line: logging.LogRecord) -> None:
    assert WithoutContent().filter(line)
    assert SECRET not in logging.Formatter().format(line)


def test_the_brokers_address_is_told() -> None:
    line = record("celery.worker.consumer.consumer", "consumer: Cannot connect to %s: %s.\n%s\n", "redis://:**@host/0", "refused", "soon")
    WithoutContent().filter(line)
    assert "redis://:**@host/0" in line.getMessage()


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_crash_is_told_by_type_and_place_only(where: str) -> None:
    run = "fail()" if where == "main" else "t = threading.Thread(target=fail); t.start(); t.join()"
    script = f"import threading\nfrom workers import logs\nlogs.set_up()\ndef fail():\n    raise ValueError('{SECRET}')\n{run}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert SECRET not in done.stderr
    assert "ended by ValueError" in done.stderr
