"""deploy/redis: real servers start with these files and let in one user, who administers nothing. That textmill works as that user is shown
in test_parts.py."""

import re

import pytest
import redis

from tests.deploy.conftest import Queue

LOCKED_OUT = (redis.exceptions.ResponseError, redis.exceptions.AuthenticationError)
REFUSED = [
    ("CONFIG", "GET", "*"),
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("DEBUG", "SLEEP", "0"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("ACL", "LIST"),
    ("MODULE", "LIST"),
    ("CLIENT", "LIST"),
    ("MONITOR",),
    ("SAVE",),
]


def test_nobody_gets_in_without_the_password(queue: Queue) -> None:
    for url in (queue.url.replace(queue.password, "wrong"), re.sub(r"//[^@]+@", "//", queue.url)):
        with redis.Redis.from_url(url) as client, pytest.raises(LOCKED_OUT):
            client.ping()


def test_plain_tcp_is_not_answered_where_there_is_tls(queue: Queue) -> None:
    if queue.url.startswith("redis:"):
        pytest.skip("this server has no TLS")
    with redis.Redis(port=queue.port, socket_timeout=5) as client, pytest.raises(redis.exceptions.ConnectionError):
        client.ping()


@pytest.mark.parametrize("command", REFUSED, ids=lambda command: command[0].lower())
def test_the_user_of_the_parts_administers_nothing(queue: Queue, command: tuple[str, ...]) -> None:
    with queue.client() as client, pytest.raises(redis.exceptions.ResponseError, match=r"(?i)no permissions|not allowed|unknown"):
        client.execute_command(*command)


def test_nothing_is_written_to_disk(queue: Queue) -> None:
    with queue.client() as client:
        client.set("kept", "in memory alone")
    assert {path.suffix for path in queue.folder.iterdir()}.isdisjoint({".rdb", ".aof"})
    assert not (queue.folder / "appendonlydir").exists()
