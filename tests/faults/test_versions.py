"""F41: workers, messages and a schema of different versions at once."""

from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from kombu import Connection
from sqlalchemy import make_url

from db.actors import Actor
from db.audit.reading import list_events
from db.files import files
from db.files.rows import iter_rows
from db.jobs import file_lists, jobs
from db.jobs.results import iter_results
from db.queue import endings
from db.queue.shards import claim_any, open_shard, release, renew
from db.server.migrate import current_revision, migrate
from db.server.revision import head_revision
from db.settings import Role, StoreSettings
from tests.conftest import Server
from tests.db.flow import Flow, Stores
from tests.faults.conftest import Verdict
from tests.faults.house import LONG_LEASE, House, Process, texts
from workers.app import QUEUE, RUN_SHARD

TABLES = ("jobs", "shards", "rows", "results", "files", "audit_events", "data_keys")


def publish_of_other_versions(house: House, job_id: UUID, times: int) -> int:
    """Claim checks as a later version, or an earlier one, might send them, for shards that exist. Returns how many went out."""
    checks = [{"shard_id": str(shard.shard_id), "epoch": shard.epoch} for shard in house.shards(job_id)]
    sent = 0
    with Connection(house.broker_url) as connection, connection.Producer(serializer="json") as producer:
        for check in checks[:times]:
            for task, kwargs, headers in (
                (RUN_SHARD, {**check, "version": 2}, {}),
                (f"{RUN_SHARD}.v2", check, {}),
                (RUN_SHARD, {"shard": check["shard_id"]}, {}),
                (RUN_SHARD, check, {"stamps": {"version": 2}}),
            ):
                producer.publish([[], kwargs, {}], routing_key=QUEUE, headers={"task": task, "id": str(uuid4()), **headers})
                sent += 1
    return sent


def no_attempt_was_burned(house: House, job_id: UUID) -> bool:
    return {(shard.crash_attempts, shard.error_attempts) for shard in house.shards(job_id)} == {(0, 0)}


def alive(*processes: Process) -> bool:
    return all(process.alive for process in processes)


@pytest.mark.fault("F41", "messages of another version")
def test_a_message_of_another_version_is_ignored_and_fails_nothing(house: House, verdict: Verdict) -> None:
    load = house.load(texts(600))
    dispatcher, worker = house.start_dispatcher(), house.start_worker(delay_ms=2, **LONG_LEASE)
    house.wait_done(load.job_id, 50)
    sent = publish_of_other_versions(house, load.job_id, 20)
    house.wait_all_completed([load])
    broker = redis.Redis.from_url(house.broker_url)
    house.wait_for(lambda: broker.llen(QUEUE) == 0, "the messages are taken")
    assert no_attempt_was_burned(house, load.job_id)
    assert alive(dispatcher, worker)
    assert "that are no claim checks" in worker.log
    counted = verdict(house.count([load]), messages=sent)
    assert counted.recomputed == 0


@pytest.mark.fault("F41", "two workers at once while the schema moves on")
def test_a_schema_that_moves_on_under_two_workers_stops_nothing(house: House, server: Server, verdict: Verdict) -> None:
    """What the next migration does to the tables of this one (columns more, indexes), and the newest revision applied again."""
    owner = house.settings.database_url_for(Role.OWNER)
    database = make_url(str(house.settings.database_url)).database
    assert database is not None
    load = house.load(texts(1_500))
    dispatcher = house.start_dispatcher()
    workers = [house.start_worker(delay_ms=2, **LONG_LEASE) for _ in range(2)]
    for step, table in enumerate(TABLES):
        house.wait_done(load.job_id, (step + 1) * 150)
        migrate(owner)
        change_schema(server, database, f"ALTER TABLE {table} ADD COLUMN of_the_next_version text DEFAULT 'x'")
        change_schema(server, database, f"CREATE INDEX ON {table} (tenant_id, of_the_next_version)")
    house.wait_all_completed([load])
    assert current_revision(owner) == head_revision()
    assert no_attempt_was_burned(house, load.job_id)
    assert alive(dispatcher, *workers)
    counted = verdict(house.count([load]), migrations=2 * len(TABLES))
    assert counted.recomputed == 0


@pytest.mark.fault("F41", "a schema that ends the support of those that run, and one that does not")
def test_what_runs_goes_on_where_the_new_schema_serves_it_and_else_stops_and_spoils_nothing(
    house: House, server: Server, verdict: Verdict
) -> None:
    database = make_url(str(house.settings.database_url)).database
    assert database is not None
    load = house.load(texts(1_500))
    parts = dispatcher, worker = (
        house.start_dispatcher(port=house.free_port()),
        house.start_worker(delay_ms=2, port=house.free_port(), **LONG_LEASE),
    )
    house.wait_done(load.job_id, 150)
    change_schema(server, database, f"UPDATE alembic_version SET version_num = '9998', oldest_program = '{head_revision()}'")
    house.wait_done(load.job_id, 500)
    assert [part.metric("textmill_schema_fits") for part in parts] == [1, 1]
    change_schema(server, database, "UPDATE alembic_version SET version_num = '9999', oldest_program = '9999'")
    house.wait_for(lambda: "made by a newer textmill" in worker.log and "made by a newer textmill" in dispatcher.log, "both say it")
    stored = stored_rows(server, database)
    house.wait_for(lambda: worker.log.count("could not look for shards") > 0, "the worker looks, and claims nothing")
    assert stored_rows(server, database) == stored
    assert [part.metric("textmill_schema_fits") for part in parts] == [0, 0]
    assert alive(*parts)
    change_schema(server, database, f"UPDATE alembic_version SET version_num = '{head_revision()}', oldest_program = '{head_revision()}'")
    house.wait_all_completed([load])
    assert [part.metric("textmill_schema_fits") for part in parts] == [1, 1]
    assert no_attempt_was_burned(house, load.job_id)
    verdict(house.count([load]))


def stored_rows(server: Server, database: str) -> int:
    with psycopg.connect(server.postgres.superuser_url(database).render_as_string(hide_password=False)) as conn:
        found = conn.execute("SELECT count(*) FROM results").fetchone()
    assert found is not None
    return int(found[0])


def test_what_a_process_has_prepared_outlives_a_migration(stores: Stores, tenant: Actor, server: Server, settings: StoreSettings) -> None:
    """The driver prepares a statement when it has come five times, and Postgres refuses it once its columns are others."""
    flow = Flow(stores)
    database = make_url(str(settings.database_url)).database
    assert database is not None

    def go_through() -> None:
        job = flow.job(tenant, 10)
        lease = flow.claim()
        assert len(open_shard(flow.worker, lease)[1]) == 10
        assert renew(flow.worker, [lease]) == {lease.shard_id: "held"}
        flow.answer(lease, range(5), finish=False)
        release(flow.worker, lease, code=None, kind="drain")
        flow.answer(flow.claim(), range(5, 10))
        assert claim_any(flow.worker, "host:1") == []
        endings.finalize_jobs(flow.dispatcher)
        assert jobs.get_job(flow.api, tenant, job.job_id).state == "completed"
        assert len(list(iter_results(flow.api, tenant, job.job_id, which="output"))) == 10
        assert len(list(iter_rows(flow.api, tenant, job.file_id))) == 10
        jobs.list_jobs(flow.api, tenant, limit=3)
        file_lists.list_files(flow.api, tenant, limit=3)
        list_events(flow.api, tenant, limit=3)
        files.delete_file(flow.api, tenant, job.file_id)

    for _ in range(7):
        go_through()
    for table in TABLES:
        change_schema(server, database, f"ALTER TABLE {table} ADD COLUMN of_the_next_version text DEFAULT 'x'")
    for _ in range(2):
        go_through()


def change_schema(server: Server, database: str, statement: str) -> None:
    url = server.postgres.superuser_url(database).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("SET lock_timeout = '20s'")
        conn.execute(statement.encode())
