"""F42: no connection is to be had, and no file descriptor."""

import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from db.settings import Role
from tests.conftest import Server
from tests.faults.conftest import Verdict
from tests.faults.front import Front, start_front
from tests.faults.house import House, texts
from tests.faults.test_versions import stored_rows

FEW_FILES = 256
OUTAGE_SECONDS = 3.0  # longer than a lease


def database_of(house: House) -> str:
    database = make_url(str(house.settings.database_url)).database
    assert database is not None
    return database


@contextmanager
def no_connection_by_limit(house: House, server: Server) -> Iterator[None]:
    """The database's own limit: refused with the same SQLSTATE (53300), and quick to set."""
    server.execute(f'ALTER DATABASE "{database_of(house)}" CONNECTION LIMIT 0')
    try:
        cut_all(house, server)
        yield
    finally:
        server.execute(f'ALTER DATABASE "{database_of(house)}" CONNECTION LIMIT -1')


@contextmanager
def no_connection_at_all(house: House, server: Server) -> Iterator[None]:
    """Somebody holds every one of max_connections that is not kept for superusers; taken again as soon as one is free."""
    url = house.settings.database_url_for(Role.AUDITOR).set(drivername="postgresql")

    def take_all(held: ExitStack) -> int:
        taken = 0
        while True:
            try:
                held.enter_context(psycopg.connect(url.render_as_string(hide_password=False)))
            except psycopg.OperationalError:
                return taken
            taken += 1

    with ExitStack() as held:
        assert take_all(held) > 100
        for _ in range(5):
            cut_all(house, server)
            take_all(held)
        yield


def cut_all(house: House, server: Server) -> None:
    server.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        f" WHERE datname = '{database_of(house)}' AND application_name LIKE 'textmill-%'"
    )


def asked(front: Front) -> httpx.Response:
    with front.http() as http:
        return http.get("/v1/batches")


@pytest.mark.fault("F42", "no connection to Postgres is to be had")
@pytest.mark.parametrize(
    "outage", [no_connection_by_limit, pytest.param(no_connection_at_all, marks=pytest.mark.matrix)], ids=["database", "max_connections"]
)
def test_without_connections_the_api_asks_to_come_back_and_workers_go_on_afterwards(
    house: House, server: Server, verdict: Verdict, outage: Callable[[House, Server], AbstractContextManager[None]]
) -> None:
    front = start_front(house)
    load = house.load(texts(8_000))
    dispatcher, worker = house.start_dispatcher(), house.start_worker(delay_ms=2)
    house.wait_done(load.job_id, 100)
    assert asked(front).status_code == 200
    worker.send(signal.SIGSTOP)  # until nobody gets in any more, which takes some time to bring about
    with outage(house, server):
        worker.send(signal.SIGCONT)
        until = time.monotonic() + OUTAGE_SECONDS
        answers = [asked(front)]
        while time.monotonic() < until:
            time.sleep(0.2)
            answers.append(asked(front))
        done = stored_rows(server, database_of(house))
    ended = time.monotonic()
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == len(answers), {answer.status_code for answer in answers}
    assert all(int(answer.headers["retry-after"]) > 0 and answer.json()["error"]["code"] == "store_unavailable" for answer in refused)
    assert done < len(load.texts), "it was in the middle of it"
    house.wait_for(lambda: house.done_count(load.job_id) > done, "rows are done again")
    recovered = time.monotonic() - ended
    assert asked(front).status_code == 200
    house.wait_all_completed([load])
    assert dispatcher.alive
    assert worker.alive
    verdict(house.count([load]), refused_503=len(refused), rec_s=round(recovered, 1), fenced=house.fenced())


@pytest.mark.matrix
@pytest.mark.fault("F42", "256 file descriptors for a worker and the dispatcher")
def test_a_worker_with_few_file_descriptors_does_its_work(house: House, server: Server, verdict: Verdict) -> None:
    """Connections that are cut and made again leave none behind: it would run out of them."""
    load = house.load(texts(1_500))
    processes = house.start_dispatcher(), house.start_worker(delay_ms=2)
    for process in processes:
        resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    for cut in range(6):
        house.wait_done(load.job_id, (cut + 1) * 150)
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^textmill-(worker|dispatcher)'")
    house.wait_all_completed([load])
    assert all(process.alive for process in processes)
    verdict(house.count([load]), limit=FEW_FILES, cuts=6)


@pytest.mark.fault("F42", "256 file descriptors for the API, and 300 clients")
def test_an_api_out_of_file_descriptors_answers_again_when_they_are_back(house: House, verdict: Verdict) -> None:
    front = start_front(house)
    resource.prlimit(front.process.popen.pid, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    load = house.load(texts(300))
    with front.http() as early, ExitStack() as held:
        assert early.get("/healthz").status_code == 200  # its connection stays open
        for _ in range(300):
            held.enter_context(socket.create_connection(("127.0.0.1", front.port), timeout=5))
        house.wait_for(lambda: open_files(front) >= FEW_FILES - 2, "its descriptors are used up")
        starved = early.get("/v1/batches")
        assert starved.status_code in {200, 503}, starved.text
    began = time.monotonic()
    house.wait_for(lambda: answers(front), "it answers new clients")
    recovered = time.monotonic() - began
    assert front.process.alive
    house.start_dispatcher()
    house.start_worker()
    house.wait_all_completed([load])
    verdict(house.count([load]), while_starved=starved.status_code, rec_s=round(recovered, 1))


def open_files(front: Front) -> int:
    return len(list(Path(f"/proc/{front.process.popen.pid}/fd").iterdir()))


def answers(front: Front) -> bool:
    try:
        return asked(front).status_code == 200
    except httpx.TransportError:
        return False
