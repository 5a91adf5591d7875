"""What Flower is told of a shard: its task, its job's short id, its rows and their rate, and nothing else."""

import threading
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db.actors import Lease
from workers.host.telling import WAITING, Telling, claimed, let_go
from workers.shard.life import End

IDS = [UUID(f"{digit}" * 32) for digit in "1234"]
LEASE = Lease(IDS[0], IDS[1], IDS[2], IDS[3], 2, 1_000, 3_000, "classify", "/v1/classifications", "small", None)
CLAIM = f"{IDS[1]}.2"


def test_a_claimed_shard_is_told_by_its_task_its_jobs_short_id_and_its_rows() -> None:
    (received, fields), (started, _) = claimed(LEASE)
    assert (received, started) == ("task-received", "task-started")
    assert fields == {"uuid": CLAIM, "name": "classify", "args": "", "kwargs": "job 33333333, rows 1,001 to 3,000", "retries": 1}


@pytest.mark.parametrize(
    ("end", "kind", "result"),
    [
        (End.DONE, "task-succeeded", "2,000 rows, 500 rows/s"),
        (End.DRAINED, "task-revoked", "drained: 2,000 rows, 500 rows/s"),
        (End.PAUSED, "task-revoked", "paused: 2,000 rows, 500 rows/s"),
        (End.CANCELLED, "task-revoked", "cancelled: 2,000 rows, 500 rows/s"),
        (End.LOST, "task-failed", "lost: 2,000 rows, 500 rows/s"),
        (End.RELEASED, "task-failed", "released: 2,000 rows, 500 rows/s"),
        (End.BROKEN, "task-failed", "broken: 2,000 rows, 500 rows/s"),
    ],
)
def test_the_end_of_a_shard_is_told_with_its_rate(end: End, kind: str, result: str) -> None:
    told, fields = let_go(LEASE, end, 2_000, 4.0)
    assert (told, fields["uuid"], fields["result"]) == (kind, CLAIM, result)


def test_a_single_row_is_told_as_one_and_a_slow_rate_is_not_nought() -> None:
    one = replace(LEASE, first_idx=0, end_idx=1)
    assert claimed(one)[0][1]["kwargs"] == "job 33333333, row 1"
    assert let_go(one, End.DONE, 1, 25.0)[1]["result"] == "1 row, 0.04 rows/s"
    assert let_go(LEASE, End.DONE, 5, 2.0)[1]["result"] == "5 rows, 2.5 rows/s"


def test_a_shard_without_a_row_has_no_rate() -> None:
    assert let_go(LEASE, End.LOST, 0, 4.0)[1]["result"] == "lost: 0 rows"


class Dispatcher:
    """Celery's, as far as it is asked."""

    enabled = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.all_there = threading.Event()

    def send(self, kind: str, **fields: Any) -> None:
        self.sent.append((kind, fields))
        if kind == "task-received":
            raise ConnectionError
        if kind == "task-succeeded":
            self.all_there.set()


def test_rows_are_counted_by_shard_and_a_broker_in_trouble_stops_nothing() -> None:
    dispatcher = Dispatcher()
    telling = Telling(lambda: dispatcher)
    telling.start()
    telling.wrote(7)  # of no shard

    def run() -> End:
        telling.wrote(30)
        telling.wrote(12)
        return End.DONE

    assert telling.work(LEASE, run) is End.DONE
    assert dispatcher.all_there.wait(10)
    assert [kind for kind, _ in dispatcher.sent] == ["task-received", "task-started", "task-succeeded"]
    assert dispatcher.sent[-1][1]["result"].startswith("42 rows")


def test_a_trouble_in_telling_ends_no_worker() -> None:
    """It is for people who look, and no duty of the process."""
    dispatcher, asked = Dispatcher(), iter([True])

    def of_the_moment() -> Dispatcher:
        if next(asked, False):
            raise AttributeError
        return dispatcher

    telling = Telling(of_the_moment)
    telling.start()
    assert telling.work(LEASE, lambda: End.DONE) is End.DONE
    assert dispatcher.all_there.wait(10)
    assert [kind for kind, _ in dispatcher.sent] == ["task-started", "task-succeeded"]


def test_no_shard_waits_for_the_events_of_others() -> None:
    telling = Telling(lambda: None)  # its thread is not started: nothing takes what is told
    for _ in range(WAITING):
        assert telling.work(LEASE, lambda: End.DONE) is End.DONE
