import logging

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
