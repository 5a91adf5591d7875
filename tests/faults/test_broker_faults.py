"""F21, F23, F26: a broker that forgets, dies, doubles, or brings what nobody sent."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from kombu import Connection

from api.local.home import Home
from api.local.valkey import EmbeddedValkey
from tests.faults.house import House, texts
from workers.app import QUEUE, RUN_SHARD

ROWS = 1_000


def test_a_flushed_broker_loses_no_row(house: House, broker_url: str) -> None:
    house.broker_url = broker_url
    documents = texts(ROWS)
    job_id = house.submit(documents)
    house.start_dispatcher()
    house.start_worker(delay_ms=2)
    house.wait_done(job_id, ROWS // 4)
    redis.Redis.from_url(house.broker_url).flushall()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)


def test_a_broker_that_dies_under_way_stops_nothing(house: House, tmp_path: Path) -> None:
    Home(tmp_path / "broker").prepare()
    broker = EmbeddedValkey(tmp_path / "broker")
    broker.start()
    house.broker_url = broker.url
    try:
        documents = texts(ROWS)
        job_id = house.submit(documents)
        dispatcher = house.start_dispatcher()
        worker = house.start_worker(delay_ms=2)
        house.wait_done(job_id, ROWS // 4)
    finally:
        broker.stop(hurry=True)
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    assert worker.alive
    assert dispatcher.log.count("the broker is away") == 1
    assert worker.drain() == 0
    assert dispatcher.drain() == 0


def test_a_broker_that_was_never_there_stops_nothing(house: House) -> None:
    house.broker_url = f"redis://127.0.0.1:{house.free_port()}/0"
    documents = texts(ROWS)
    job_id = house.submit(documents)
    house.start_dispatcher()
    worker = house.start_worker()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    assert worker.drain() == 0


def test_messages_delivered_twenty_times_are_worked_on_once(house: House, broker_url: str) -> None:
    house.broker_url = broker_url
    documents = texts(ROWS)
    job_id = house.submit(documents)
    dispatcher = house.start_dispatcher()
    house.wait_for(lambda: len(house.shards(job_id)) > 0, "the job is cut")
    broker = redis.Redis.from_url(house.broker_url)
    # Published after it is written down as dispatched: what counts is what has arrived.
    house.wait_for(lambda: broker.llen(QUEUE) >= len(house.shards(job_id)), "every shard is offered")
    sent = broker.lrange(QUEUE, 0, -1)
    assert isinstance(sent, list)
    assert sent
    for _ in range(19):
        broker.lpush(QUEUE, *sent)
    worker = house.start_worker(port=house.free_port(), TEXTMILL_POLL_SECONDS="30")
    house.wait_completed(job_id)
    house.wait_for(lambda: broker.llen(QUEUE) == 0, "the doubles are taken")
    house.check_results(job_id, documents)
    assert worker.metric("textmill_batch_rows_total") == ROWS + 4, "the rows, and the four labels once"
    assert dispatcher.alive


class Exploit:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._path,)  # type: ignore[return-value]


@pytest.mark.parametrize("raw", ["not json", "{}", "[]", json.dumps({"body": "x", "properties": {}}), ""])
def test_bytes_that_are_no_message_do_not_hurt(house: House, raw: str) -> None:
    redis.Redis.from_url(house.broker_url).lpush(QUEUE, raw)
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
    worker = house.start_worker()
    house.wait_completed(job_id)
    house.check_results(job_id, documents)
    broker = redis.Redis.from_url(house.broker_url)
    house.wait_for(lambda: broker.llen(QUEUE) == 0, "the queue is empty")
    assert worker.alive
    return worker.log
