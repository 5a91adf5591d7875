"""The proxy itself: what it carries, what it breaks, and how it reads Postgres' wire."""

import struct
import time

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from tests.conftest import Server
from tests.faults.proxy import Proxy, Side, Way, Wire, says

WAYS: tuple[Way, ...] = ("up", "down")


def test_messages_are_found_however_they_are_cut() -> None:
    start = struct.pack(">ii", 8, 80877103) + struct.pack(">ii", 12, 196608) + b"abc\0"
    query = b"Q" + struct.pack(">i", 11) + b"COMMIT\0"
    wire = Wire()
    found = [message for byte in start + query + query for message in wire.feed(bytes([byte]))]
    assert found == [start[:8], start[8:], query, query]
    assert says(query, b"COMMIT")
    assert not says(query, b"ROLLBACK")


def test_a_cut_resets_what_is_connected_and_refuses_what_comes(valkey: str) -> None:
    with Proxy.of_broker(valkey) as proxy:
        client = redis.Redis.from_url(proxy.url, retry=None)
        assert client.ping()
        proxy.cut()
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        proxy.heal()
        assert client.ping()


def test_what_is_held_passes_when_it_heals(valkey: str) -> None:
    with Proxy.of_broker(valkey) as proxy:
        client = redis.Redis.from_url(proxy.url, socket_timeout=0.2, retry=None)
        client.ping()
        for way in WAYS:
            proxy.hold(way)
            with pytest.raises(redis.TimeoutError):
                client.ping()
            proxy.heal()
        assert client.ping()


def test_a_slow_link_is_slow(valkey: str) -> None:
    with Proxy.of_broker(valkey) as proxy:
        client = redis.Redis.from_url(proxy.url)
        client.ping()
        proxy.slow_down(latency_seconds=0.1)
        began = time.monotonic()
        client.ping()
        assert time.monotonic() - began >= 0.2, "there and back"


@pytest.mark.parametrize(("side", "stored"), [(Side.ROWS, 0), (Side.BEFORE, 0), (Side.AFTER, 1)])
def test_a_commit_is_cut_before_or_after_the_server_has_it(server: Server, side: Side, stored: int) -> None:
    name = server.new_database()
    superuser = server.postgres.superuser_url(name)
    try:
        with Proxy.of_postgres(server.address(name)) as proxy:
            through = make_url(proxy.url).set(username=superuser.username, password=superuser.password)
            with psycopg.connect(through.render_as_string(hide_password=False)) as connection:
                connection.execute("CREATE TABLE staged_results (n int)")
                connection.commit()
                connection.execute("SELECT 1")
                proxy.cut_next_commit(side)
                connection.commit()  # of a transaction that stores nothing: left alone
                with pytest.raises(psycopg.OperationalError):
                    store(connection)
            assert proxy.commits_cut == 1
        with psycopg.connect(superuser.render_as_string(hide_password=False)) as direct:
            [(count,)] = direct.execute("SELECT count(*) FROM staged_results").fetchall()
        assert count == stored
    finally:
        server.drop_database(name)


def store(connection: "psycopg.Connection[tuple[object, ...]]") -> None:
    with connection.cursor() as cursor, cursor.copy("COPY staged_results FROM STDIN") as copy:
        copy.write("1\n")
    connection.commit()
