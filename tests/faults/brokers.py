"""A broker of a test's own, to kill and to spoil, and who listens to it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from api.local.home.home import Home
from api.local.servers.valkey import EmbeddedValkey


@contextmanager
def own_broker(folder: Path) -> Iterator[EmbeddedValkey]:
    Home(folder).prepare()
    broker = EmbeddedValkey(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(hurry=True)


def kill(broker: EmbeddedValkey) -> None:
    """kill -9. `broker.start()` brings it back at the same port, empty."""
    assert broker.child is not None
    broker.child.signal(signal.SIGKILL)
    assert broker.child.wait(10)


def consumers(url: str) -> int:
    """How many clients wait for a message right now: one a worker that has a thread free."""
    with redis.Redis.from_url(url) as client:
        info = client.info("clients")
    assert isinstance(info, dict)
    return int(info["blocked_clients"])
