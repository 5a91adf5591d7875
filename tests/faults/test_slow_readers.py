"""F37: who reads results a kilobyte at a time, goes away, and comes back."""

import json
import socket
import time
from uuid import UUID

import psycopg
import pytest

from db.audit.reading import list_events
from db.jobs.results import PAGE_ROWS
from tests.conftest import Server
from tests.faults.api_process import ApiProcess, output_of, start_api
from tests.faults.conftest import Verdict
from tests.faults.house import House, texts

ROWS = 20_000
READERS = 8
BYTES_PER_SECOND = 1_000
SLOW_SECONDS = 5.0
FLAT_MIB = 30
BUFFER_BYTES = 4096  # of a reader's socket: the kernel must not take the whole file in for it


class SlowReader:
    """Plain HTTP over a socket with hardly any buffer."""

    def __init__(self, api: ApiProcess, job_id: UUID) -> None:
        self.got = b""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.connect(("127.0.0.1", api.port))
        self._socket.settimeout(10)
        head = f"GET {output_of(job_id)} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n"
        self._socket.sendall(head.encode())
        while b"\r\n\r\n" not in self.got:
            self.got += self._socket.recv(64)
        self.status, self.got = self.got.split(b"\r\n", 1)[0], self.got.partition(b"\r\n\r\n")[2]

    def read(self, size: int) -> None:
        self.got += self._socket.recv(size)

    def go_away(self) -> None:
        self._socket.close()


@pytest.mark.matrix
@pytest.mark.fault("F37", "readers at 1 kB/s that go away and come back")
def test_slow_readers_cost_no_memory_and_hold_no_transaction(house: House, server: Server, verdict: Verdict) -> None:
    load = house.load(texts(ROWS))
    house.start_dispatcher()
    for _ in range(2):
        house.start_worker()
    house.wait_completed(load.job_id, 90)
    api = start_api(house)
    whole = read_whole(api, load.job_id)
    pages_of_whole = pages_read(house, load.job_id)
    assert pages_of_whole >= ROWS // PAGE_ROWS
    before_mib = api.rss_mib()

    readers = [SlowReader(api, load.job_id) for _ in range(READERS)]
    assert {reader.status for reader in readers} == {b"HTTP/1.1 200 OK"}
    most_mib, idle_in_transaction = 0.0, 0
    until = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < until:
        for reader in readers:
            reader.read(BYTES_PER_SECOND // 10)
        idle_in_transaction = max(idle_in_transaction, open_transactions(server))
        most_mib = max(most_mib, api.rss_mib())
        time.sleep(0.1)
    read_by_slow = pages_read(house, load.job_id) - pages_of_whole
    for reader in readers:
        reader.go_away()
    assert most_mib - before_mib < FLAT_MIB
    assert idle_in_transaction == 0
    assert READERS <= read_by_slow < READERS * pages_of_whole // 2, "a page is read, and on record, when its turn has come"
    assert all(whole.startswith(reader.got) and reader.got for reader in readers)

    assert read_whole(api, load.job_id) == whole
    for reader in readers[:2]:
        whole_lines = reader.got[: reader.got.rindex(b"\n") + 1]
        last = json.loads(whole_lines.splitlines()[-1])["id"]
        assert whole_lines + read_whole(api, load.job_id, after=last) == whole, "what it reads on is what it would have got"
    wait_gone(house, server)
    verdict(house.count([load]), grown_mib=round(most_mib - before_mib, 1), pages=f"{read_by_slow} for {READERS} slow readers")


def read_whole(api: ApiProcess, job_id: UUID, **query: str) -> bytes:
    with api.client() as client:
        return client.get(output_of(job_id), params=query).raise_for_status().content


def pages_read(house: House, job_id: UUID) -> int:
    seen: int = 0
    after: UUID | None = None
    while events := list_events(house.api, house.actor, limit=500, after=after, action="results.read", object_id=job_id):
        seen += len(events)
        after = events[-1].event_id
    return seen


def open_transactions(server: Server) -> int:
    """Of the API, that wait for their client and not for Postgres."""
    url = server.postgres.superuser_url().render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'textmill-api' AND state LIKE 'idle in transaction%'"
            " AND state_change < now() - interval '50 ms'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def wait_gone(house: House, server: Server) -> None:
    house.wait_for(lambda: open_transactions(server) == 0, "nothing is left of the readers")
