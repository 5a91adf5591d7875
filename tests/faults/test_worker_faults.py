"""What happens to a worker whose connections to Postgres are cut."""

from tests.conftest import Server
from tests.faults.house import House, texts

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^textmill-(worker|dispatcher)'"


def test_connections_to_postgres_that_are_cut_lose_nothing(house: House, server: Server) -> None:
    documents = texts(1_000)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_worker(delay_ms=3)
    for goal in (200, 400, 600):
        house.wait_done(job_id, goal)
        server.execute(CUT)
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    assert worker.alive
