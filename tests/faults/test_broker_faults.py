"""F21, F23, F26, F27: a broker that forgets, dies, doubles, loses, or brings what nobody sent. Longer outages: test_broker_outages.py."""

import json
import random
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from kombu import Connection

from tests.faults.brokers import kill, own_broker
from tests.faults.conftest import Verdict
from tests.faults.house import LONG_LEASE, House, texts
from tests.faults.recovery import seconds_to_progress, wait_rows
from tests.faults.struck import wait_up
from workers.app import QUEUE, RUN_SHARD

ROWS = 1_000
STALE_CLAIMS = 'textmill_claims_total{by="message",outcome="stale"}'


@pytest.mark.fault("F21", "FLUSHALL")
def test_a_flushed_broker_loses_no_row(house: House, broker_url: str, verdict: Verdict) -> None:
    house.broker_url = broker_url
    load = house.load(texts(ROWS))
    house.start_dispatcher()
    house.start_worker(delay_ms=2, **LONG_LEASE)
    house.wait_done(load.job_id, ROWS // 4)
    redis.Redis.from_url(house.broker_url).flushall()
    rec_s = seconds_to_progress(house, [load])
    house.wait_completed(load.job_id)
    counted = verdict(house.count([load]), fenced=house.fenced(), rec_s=rec_s)
    assert counted.recomputed == 0


@pytest.mark.matrix
@pytest.mark.fault("F21", "FLUSHALL, five times")
def test_a_broker_flushed_again_and_again_loses_no_row(house: House, broker_url: str, verdict: Verdict) -> None:
    house.broker_url = broker_url
    loads = house.load_all(6_000)
    house.start_dispatcher()
    for _ in range(3):
        house.start_worker(delay_ms=2, **LONG_LEASE)
    worst = 0.0
    for _ in range(5):
        wait_rows(house, loads, 1_000)
        redis.Redis.from_url(house.broker_url).flushall()
        worst = max(worst, seconds_to_progress(house, loads))
    house.wait_all_completed(loads)
    counted = verdict(house.count(loads), fenced=house.fenced(), rec_s=worst)
    assert counted.recomputed == 0


@pytest.mark.fault("F23", "the broker dies and stays away")
def test_a_broker_that_dies_under_way_stops_nothing(house: House, tmp_path: Path, verdict: Verdict) -> None:
    with own_broker(tmp_path / "broker") as broker:
        house.broker_url = broker.url
        load = house.load(texts(ROWS))
        dispatcher = house.start_dispatcher()
        worker = house.start_worker(delay_ms=2, **LONG_LEASE)
        house.wait_done(load.job_id, ROWS // 4)
        kill(broker)
        rec_s = seconds_to_progress(house, [load])
        house.wait_completed(load.job_id)
        counted = verdict(house.count([load]), fenced=house.fenced(), rec_s=rec_s)
        assert counted.recomputed == 0
        assert worker.alive
        assert dispatcher.log.count("the broker is away") == 1
        assert worker.drain() == 0
        assert dispatcher.drain() == 0


@pytest.mark.fault("F23", "a broker that was never there")
def test_a_broker_that_was_never_there_stops_nothing(house: House, verdict: Verdict) -> None:
    house.broker_url = f"redis://127.0.0.1:{house.free_port()}/0"
    load = house.load(texts(ROWS))
    house.start_dispatcher()
    worker = house.start_worker(**LONG_LEASE)
    house.wait_completed(load.job_id)
    counted = verdict(house.count([load]), fenced=house.fenced())
    assert counted.recomputed == 0
    assert worker.drain() == 0


@pytest.mark.fault("F26", "every message delivered many times, in any order")
@pytest.mark.parametrize("times", [20, pytest.param(100, marks=pytest.mark.matrix)])
def test_messages_delivered_many_times_are_worked_on_once(house: House, broker_url: str, verdict: Verdict, times: int) -> None:
    house.broker_url = broker_url
    load = house.load(texts(ROWS))
    dispatcher = house.start_dispatcher()
    house.wait_for(lambda: len(house.shards(load.job_id)) > 0, "the job is cut")
    broker = redis.Redis.from_url(house.broker_url)
    # Published after it is written down as dispatched: what counts is what has arrived.
    house.wait_for(lambda: broker.llen(QUEUE) >= len(house.shards(load.job_id)), "every shard is offered")
    sent = broker.lrange(QUEUE, 0, -1)
    assert isinstance(sent, list)
    assert sent
    again = sent * (times - 1)
    random.Random(26).shuffle(again)
    broker.lpush(QUEUE, *again)
    workers = [house.start_worker(port=house.free_port(), TEXTMILL_POLL_SECONDS="30", **LONG_LEASE) for _ in range(2)]
    house.wait_completed(load.job_id)
    house.wait_for(lambda: broker.llen(QUEUE) == 0, "the doubles are taken")
    wait_up(house, workers)  # one alone may have done it all
    house.wait_for(lambda: sum(worker.metric(STALE_CLAIMS) for worker in workers) >= len(again), "every double is answered with nothing")
    counted = verdict(house.count([load]), fenced=house.fenced(), doubles=len(again))
    assert counted.recomputed == 0
    assert dispatcher.alive


@pytest.mark.matrix
@pytest.mark.fault("F27", "half of all messages are lost")
def test_half_of_the_messages_lost_loses_no_row(house: House, verdict: Verdict) -> None:
    loads = house.load_all()
    dispatcher = house.start("tests.faults.lossy_dispatcher")
    for _ in range(3):
        house.start_worker(delay_ms=2, **LONG_LEASE)
    house.wait_all_completed(loads)
    lost = dispatcher.log.count("a message is lost")
    assert lost > 0
    shards = sum(len(house.shards(load.job_id, load.actor)) for load in loads)
    counted = verdict(house.count(loads), fenced=house.fenced(), messages_lost=f"{lost} of {shards}")
    assert counted.recomputed == 0


@pytest.mark.matrix
@pytest.mark.fault("F27", "all messages are lost")
def test_no_message_at_all_loses_no_time_beyond_a_look(house: House, verdict: Verdict) -> None:
    """The worst of it: what a worker finds it finds by looking, P after the last look at the latest."""
    house.start("tests.faults.lossy_dispatcher", LOSS="1")
    house.start_worker(**LONG_LEASE)
    load = house.load(texts(ROWS))
    house.wait_for(lambda: len(house.shards(load.job_id)) > 0, "the job is cut")
    rec_s = seconds_to_progress(house, [load], timeout_seconds=20)
    house.wait_completed(load.job_id)
    counted = verdict(house.count([load]), fenced=house.fenced(), rec_s=rec_s)
    assert counted.recomputed == 0


class Exploit:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._path,)  # type: ignore[return-value]


def test_bytes_that_are_no_message_do_not_hurt(house: House) -> None:
    redis.Redis.from_url(house.broker_url).lpush(QUEUE, "not json", "{}", "[]", json.dumps({"body": "x", "properties": {}}), "")
    _runs_as_usual(house)


def test_forged_messages_run_nothing_and_are_not_quoted(house: House, broker_url: str, tmp_path: Path) -> None:
    house.broker_url = broker_url
    import pickle

    canary, bait = "zebra-quartz-canary", tmp_path / "exploited"
    check = {"shard_id": str(uuid4()), "epoch": 1}
    ours = {"task": RUN_SHARD, "id": str(uuid4())}
    with Connection(house.broker_url) as connection, connection.Producer(serializer="json") as producer:

        def forge(body: object, headers: dict[str, object], **properties: str) -> None:
            producer.publish(body, routing_key=QUEUE, headers=headers, **properties)

        pickled = pickle.dumps([[], {"x": Exploit(bait)}, {}])
        forge(pickled, ours, content_type="application/x-python-serialize", content_encoding="binary")
        forge([[], {"text": canary}, {}], {"task": "os.system", "id": canary})
        forge({"task": RUN_SHARD, "id": canary, "args": [], "kwargs": {"text": canary}}, {})
        forge([[canary], check, {}], ours)
        forge([[], {**check, "text": canary}, {}], ours)
        forge([[], check, {"chain": [{"task": canary}]}], ours)
        forge([[], check, {}], {**ours, "eta": "2099-01-01T00:00:00"})
        forge(canary, ours)
        forge([[], check, {}], ours)  # well-formed, of a shard that does not exist
    worker = _runs_as_usual(house)
    assert canary not in worker
    assert not bait.exists()


def _runs_as_usual(house: House) -> str:
    documents = texts(60)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_worker(**LONG_LEASE)
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    broker = redis.Redis.from_url(house.broker_url)
    house.wait_for(lambda: broker.llen(QUEUE) == 0, "the queue is empty")
    assert worker.alive
    return worker.log
