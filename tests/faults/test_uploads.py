"""F38: uploads that are cut off, and requests that come twice."""

import socket
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from db.connect import Store
from db.files.purge import FilePurge
from db.jobs import jobs
from db.purging import Lasting
from db.settings import Role
from tests.faults.conftest import Verdict
from tests.faults.front import Front, lines_of, load_of, start_front
from tests.faults.house import House, texts
from tests.looking import on_record

Stores = Callable[[Role], Store]
ROWS = 6_000  # more than a chunk of the store: by the time of the cut, some are in it


def staged(house: House) -> tuple[int, int, int]:
    """(files, rows, keys of files) of the tenant."""
    with on_record(house.api, house.actor.tenant_id) as conn:
        found = conn.execute(
            text(
                "SELECT (SELECT count(*) FROM files), (SELECT count(*) FROM rows),"
                " (SELECT count(*) FROM data_keys WHERE owner_kind = 'file')"
            )
        ).one()
        return found[0], found[1], found[2]


def send_most_of(front: Front, data: bytes) -> socket.socket:
    request = front.upload_request(data)
    connection = socket.create_connection(("127.0.0.1", front.port))
    connection.sendall(request[: len(request) * 99 // 100])
    return connection


def run_to_the_end(house: House, front: Front, documents: list[str], verdict: Verdict, **facts: object) -> None:
    """The client tries again, and has one job."""
    uploaded = front.upload(lines_of(documents)).raise_for_status().json()
    with front.http() as http:
        batch = http.post("/v1/batches", json=front.job_of(uploaded["id"])).raise_for_status().json()
    load = load_of(house, batch, documents)
    house.start_dispatcher()
    house.start_worker()
    house.wait_all_completed([load])
    assert len(jobs.list_jobs(house.api, house.actor, limit=10)[0]) == 1
    verdict(house.count([load]), **facts)


@pytest.mark.fault("F38", "upload cut at 99 %")
def test_an_upload_cut_short_leaves_no_row_and_no_job(house: House, verdict: Verdict) -> None:
    documents = texts(ROWS)
    front = start_front(house)
    with send_most_of(front, lines_of(documents)):
        house.wait_for(lambda: staged(house)[1] > 0, "rows are in the store")
    house.wait_for(lambda: staged(house) == (0, 0, 0), "they are out of it again")
    run_to_the_end(house, front, documents, verdict, rows_left=0)


@pytest.mark.matrix
@pytest.mark.fault("F38", "upload cut at 99 % by kill -9 of the API")
def test_an_upload_whose_api_was_killed_is_purged(house: House, stores: Stores, verdict: Verdict) -> None:
    documents = texts(ROWS)
    killed = start_front(house)
    with send_most_of(killed, lines_of(documents)):
        house.wait_for(lambda: staged(house)[1] > 0, "rows are in the store")
        killed.process.kill()
    left = staged(house)
    assert left[0] == 1
    assert FilePurge(stores(Role.DISPATCHER), Lasting(3600)).run().gone == 0, "it may still be on its way"
    assert FilePurge(stores(Role.DISPATCHER), Lasting(0)).run().gone == 1
    assert staged(house) == (0, 0, 0)
    run_to_the_end(house, start_front(house), documents, verdict, rows_purged=left[1])


@pytest.mark.fault("F38", "the same create many times, and its answers lost")
def test_one_create_under_one_key_makes_one_job(house: House, verdict: Verdict) -> None:
    documents = texts(300)
    front = start_front(house)
    file_id = front.upload(lines_of(documents)).raise_for_status().json()["id"]
    request = front.create_request(file_id, "once")
    told: list[str] = []

    def lose_the_answer() -> None:
        with socket.create_connection(("127.0.0.1", front.port)) as connection:
            connection.sendall(request)

    def ask() -> None:
        with front.http(**{"idempotency-key": "once"}) as http:
            told.append(http.post("/v1/batches", json=front.job_of(file_id)).raise_for_status().json()["id"])

    threads = [threading.Thread(target=act) for act in (lose_the_answer, ask) * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask()
    assert len(told) == 7
    assert len(set(told)) == 1
    made, _ = jobs.list_jobs(house.api, house.actor, limit=10)
    assert len(made) == 1
    load = load_of(house, {"id": told[0]}, documents)
    house.start_dispatcher()
    house.start_worker()
    house.wait_all_completed([load])
    verdict(house.count([load]), asked=13, jobs=len(made))


@pytest.mark.matrix
@pytest.mark.fault("F38", "the same upload twice under one key")
def test_the_same_upload_twice_and_one_create_make_one_job(house: House, verdict: Verdict) -> None:
    """A file that is there twice costs its place and nothing else: the create names one of them."""
    documents = texts(200)
    front = start_front(house)
    ids = [front.upload(lines_of(documents), **{"idempotency-key": "upload"}).raise_for_status().json()["id"] for _ in range(2)]
    with front.http(**{"idempotency-key": "create"}) as http:
        batches = [http.post("/v1/batches", json=front.job_of(ids[0])) for _ in range(2)]
        other = http.post("/v1/batches", json=front.job_of(ids[1]))
    assert len({batch.raise_for_status().json()["id"] for batch in batches}) == 1
    assert other.status_code in {200, 409}
    if ids[0] != ids[1]:
        assert other.json()["error"]["code"] == "idempotency_key_reused"
    load = load_of(house, batches[0].json(), documents)
    house.start_dispatcher()
    house.start_worker()
    house.wait_all_completed([load])
    made = len(jobs.list_jobs(house.api, house.actor, limit=10)[0])
    assert made == 1
    verdict(house.count([load]), jobs=made, files=len(set(ids)))
