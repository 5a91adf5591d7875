"""F31, F32, F33: a Postgres that refuses statements, keeps them waiting, or is kept busy by somebody else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from db.connect import LOCK_TIMEOUT_MS
from tests.conftest import Server
from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.house import House, texts
from tests.faults.recovery import seconds_to_progress, wait_rows

WORKERS = 2
THREADS = 4
POOL = THREADS + 1 + 3 + 1  # connections of a worker: its store's, and its lease keeper's
LOCKED_SECONDS = 7.0  # longer than lock_timeout, which is 4 s
LOCK_TIMEOUT_SECONDS = LOCK_TIMEOUT_MS / 1000


@pytest.fixture
def admin(house: House, server: Server) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """The superuser, in the house's database; each statement is a transaction."""
    with superuser(house, server) as connection:
        connection.autocommit = True
        yield connection


@contextmanager
def superuser(house: House, server: Server) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    database = make_url(str(house.settings.database_url)).database
    url = server.postgres.superuser_url(str(database)).render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        yield connection


# F31


EVERY = 5  # the how manieth write of a table fails
TABLES = ("results", "shards", "audit_events")
# Not for the API, whose requests are the tests' own way to look.
INJECT = """
    CREATE SEQUENCE fault_{table};
    GRANT USAGE ON SEQUENCE fault_{table} TO PUBLIC;
    CREATE FUNCTION fault_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        n bigint;
    BEGIN
        IF current_user = 'textmill_api' THEN
            RETURN NULL;
        END IF;
        n := nextval('public.fault_{table}');
        IF n % {every} = 0 THEN
            RAISE EXCEPTION 'injected' USING ERRCODE = CASE WHEN n % 2 = 0 THEN '40001' ELSE '40P01' END;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER fault BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fault_{table}();
"""


@pytest.mark.matrix
@pytest.mark.fault("F31", "every fifth write of results, shards and audit_events fails: 40001, 40P01")
def test_what_postgres_rolls_back_is_tried_again_with_the_same_answers(
    house: House, admin: "psycopg.Connection[tuple[object, ...]]", verdict: Verdict
) -> None:
    loads = house.load_all(2_000)
    for table in TABLES:
        admin.execute(INJECT.format(table=table, every=EVERY))
    house.start_dispatcher()
    for _ in range(WORKERS):
        house.start_worker(delay_ms=2, TEXTMILL_LEASE_SECONDS="10")
    house.wait_all_completed(loads)
    failed = {}
    for table in TABLES:
        [(writes,)] = admin.execute(f"SELECT last_value FROM fault_{table}").fetchall()
        assert isinstance(writes, int)
        failed[table] = writes // EVERY
    assert min(failed.values()) > 0
    counted = verdict(house.count(loads), fenced=house.fenced(), failed=failed)
    assert counted.recomputed == 0
    attempts = {shard.error_attempts for load in loads for shard in house.shards(load.job_id, load.actor)}
    assert attempts == {0}, "no shard is blamed for what Postgres asked to be tried again"


# F32


@pytest.mark.matrix
@pytest.mark.fault("F32", "an administrator locks shards, then results, for 7 s each; leases are longer")
def test_a_table_that_is_locked_for_less_than_a_lease_costs_nothing(house: House, server: Server, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    house.start_dispatcher()
    workers = [house.start_worker(delay_ms=2, TEXTMILL_LEASE_SECONDS="30") for _ in range(WORKERS)]
    facts = {}
    for table in ("shards", "results"):
        wait_rows(house, loads, 200)
        most_waiting, longest_wait = locked(house, server, table)
        facts[table] = f"{most_waiting} waited, {longest_wait:.1f} s at most; on in {seconds_to_progress(house, loads)} s"
        assert 0 < most_waiting <= (POOL + 1) * WORKERS + 5, "no more than there are connections of workers and dispatcher"
        assert LOCK_TIMEOUT_SECONDS - 1 < longest_wait < LOCK_TIMEOUT_SECONDS + 1
    house.wait_all_completed(loads)
    counted = verdict(house.count(loads), fenced=house.fenced(), **facts)
    assert counted.recomputed == 0
    assert all(worker.alive for worker in workers)


@pytest.mark.matrix
@pytest.mark.fault("F32", "an administrator locks shards for 7 s; the lease is 2 s")
def test_a_lease_that_ends_behind_a_lock_is_told_of(house: House, server: Server, verdict: Verdict) -> None:
    loads = house.load_all(2_000)
    house.start_dispatcher()
    workers = [house.start_worker(delay_ms=2) for _ in range(WORKERS)]
    wait_rows(house, loads, 200)
    most_waiting, _ = locked(house, server, "shards")
    rec_s = seconds_to_progress(house, loads)
    house.wait_all_completed(loads)
    verdict(house.count(loads), fenced=house.fenced(), rec_s=rec_s, most_waiting=most_waiting)
    assert any("could not renew" in worker.log for worker in workers), "who held leases then says so"


def locked(house: House, server: Server, table: str) -> tuple[int, float]:
    """Locks it, and looks who waits meanwhile: how many at most, and for how many seconds at most."""
    most_waiting, longest_wait = 0, 0.0
    with superuser(house, server) as connection, superuser(house, server) as watcher:
        watcher.autocommit = True
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        until = time.monotonic() + LOCKED_SECONDS
        while time.monotonic() < until:
            waiting = watcher.execute(
                "SELECT count(*), coalesce(extract(epoch FROM max(clock_timestamp() - query_start)), 0)::float8 FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND wait_event = 'relation' AND datname = current_database()"
            ).fetchall()
            [(count, seconds)] = waiting
            assert isinstance(count, int)
            assert isinstance(seconds, float)
            most_waiting, longest_wait = max(most_waiting, count), max(longest_wait, seconds)
            time.sleep(0.1)
        connection.rollback()
    return most_waiting, longest_wait


# F33


@pytest.mark.matrix
@pytest.mark.fault("F33", "a client idle in its transaction, and a long reader, in turns with none")
def test_somebody_elses_long_transactions_hold_nothing_up(house: House, server: Server, verdict: Verdict) -> None:
    loads: list[Load] = []
    seconds = {"alone": 0.0, "beside": 0.0}
    dispatcher = house.start_dispatcher()
    for _ in range(WORKERS):
        house.start_worker(delay_ms=1)

    def run(kind: str) -> None:
        load = house.load([f"turn {len(loads)}: {one}" for one in texts(3_000)])
        house.wait_for(lambda: house.done_count(load.job_id) > 0, "it has begun")
        began = time.monotonic()
        house.wait_completed(load.job_id)
        seconds[kind] += time.monotonic() - began
        loads.append(load)

    run("alone")
    seconds["alone"] = 0.0  # the first pays for what is started
    for _ in range(3):
        run("alone")
        with superuser(house, server) as idle, superuser(house, server) as reader:
            idle.execute("SELECT count(*) FROM shards")
            reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            before = reader.execute("SELECT count(*) FROM results").fetchone()
            run("beside")
            assert reader.execute("SELECT count(*) FROM results").fetchone() == before, "it still reads what there was when it began"
    throughput = seconds["alone"] / seconds["beside"]
    verdict(house.count(loads), fenced=house.fenced(), throughput=f"{throughput:.0%} of normal")
    assert " failed" not in dispatcher.log
    assert throughput >= 0.6, "the goal is 80 %; less may be this machine's noise"
