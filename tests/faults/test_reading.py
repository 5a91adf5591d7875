"""F46, F47: results that are read while jobs end, and while shards end in any order and their workers are killed: every row once."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import httpx
import pytest

from api.cli.work.outcomes import expected_rows, read_outcomes
from api.client import Client
from api.objects import batch_id, file_id
from db.jobs.file_lists import Which
from db.jobs.jobs import get_job
from db.jobs.steering import cancel_job
from db.lifecycle import LIVE_JOBS
from tests.faults.api_process import ApiProcess, start_api
from tests.faults.conftest import Verdict
from tests.faults.counters import Counters, Load
from tests.faults.house import House, texts
from workers.engines.fake import MARKS

JOBS, JOB_ROWS = 12, 200
LONG_ROWS = 4_000
DELAY_MS = 2.0


def some_fail(documents: Sequence[str]) -> tuple[list[str], dict[int, str]]:
    """Every seventh text spoils its numbers, so that both files have rows all along."""
    failures = dict.fromkeys(range(3, len(documents), 7), "non_finite_output")
    return [text + MARKS["nan"] if at in failures else text for at, text in enumerate(documents)], failures


class Writer:
    """Writes a job's results as `textmill results` does, again and again until the job has ended, and once more. ``faults``: rows that were
    not the job's first ones in their order, fewer than it told of, or an answer that was no answer."""

    def __init__(self, api: ApiProcess, load: Load) -> None:
        self.faults: list[str] = []
        self.reads: Counter[str] = Counter()
        self.rows = 0
        self._api = api
        self._load = load

    def write(self) -> None:
        with Client(f"http://127.0.0.1:{self._api.port}", self._api.key) as client:
            ended = False
            while not ended:
                batch = client.batch(batch_id(self._load.job_id))
                try:
                    rows = [outcome.row for outcome in read_outcomes(client, batch)]
                except Exception as error:
                    self.faults.append(f"{batch.status}: {type(error).__name__} {error}")
                    return
                expected = expected_rows(batch)
                if rows != list(range(1, len(rows) + 1)) or len(rows) != expected:
                    self.faults.append(f"{batch.status}: {len(rows)} rows, and not the first {expected} in their order")
                self.reads[batch.status] += 1
                self.rows, ended = len(rows), batch.ended


@pytest.mark.fault("F46", "results written while many jobs end")
def test_results_are_whole_at_whatever_moment_around_a_job_s_end_they_are_written(house: House, verdict: Verdict) -> None:
    api = start_api(house)
    house.start_dispatcher()
    loads = []
    for number in range(JOBS):
        documents = [f"job {number}: {one}" for one in texts(JOB_ROWS)]
        documents, failures = some_fail(documents) if number % 3 == 0 else (documents, {})
        loads.append(house.load(documents, failures=failures))
    writers = [Writer(api, load) for load in loads]
    threads = [threading.Thread(target=writer.write, name="writer") for writer in writers]
    for _ in range(2):
        house.start_worker(delay_ms=DELAY_MS)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), house._logs()
    assert [fault for writer in writers for fault in writer.faults] == []
    assert [writer.rows for writer in writers] == [JOB_ROWS] * JOBS
    reads = sum((writer.reads for writer in writers), Counter())
    assert reads["in_progress"] > JOBS, "no job was read while it ran: nothing was shown"
    verdict(house.count(loads), **dict(sorted(reads.items())))


class Poller:
    """Asks for a result file again and again, behind the last line that it has, until the job has ended and once more."""

    def __init__(self, api: ApiProcess, job_id: UUID, which: Which) -> None:
        self.got = b""
        self.polls = 0
        self.over = threading.Event()
        self._path = f"/v1/files/{file_id(job_id, which)}/content"
        self._api = api

    @property
    def rows(self) -> list[int]:
        return [json.loads(line)["row"] for line in self.got.splitlines()]

    def poll_until_over(self) -> None:
        with self._api.client() as client:
            over = False
            while not over:
                over = self.over.is_set()  # asked before the last poll, not after it
                self._poll(client)

    def _poll(self, client: httpx.Client) -> None:
        last = self.got[self.got.rindex(b"\n", 0, -1) + 1 :] if self.got.count(b"\n") > 1 else self.got
        self.got += client.get(self._path, params={"after": json.loads(last)["id"]} if last else {}).raise_for_status().content
        self.polls += 1
        self.over.wait(0.02)

    def whole(self) -> bytes:
        with self._api.client() as client:
            return client.get(self._path).raise_for_status().content


@pytest.mark.parametrize("end", ["completed", "cancelled"])
@pytest.mark.fault("F47", "a running job polled with ?after= while shards end out of order and workers are killed")
def test_whoever_polls_a_running_job_gets_every_row_once(house: House, verdict: Verdict, end: str) -> None:
    """The rows of a killed worker's shards come late, when rows behind them have long been stored."""
    api = start_api(house)
    house.start_dispatcher()
    documents, failures = some_fail(texts(LONG_ROWS))
    load = house.load(documents, failures=failures)
    workers = [house.start_worker(delay_ms=DELAY_MS) for _ in range(2)]
    pollers = [Poller(api, load.job_id, which) for which in ("output", "errors")]
    threads = [threading.Thread(target=poller.poll_until_over, name="poller") for poller in pollers]
    for thread in threads:
        thread.start()
    ahead = 0

    def gap(goal: int) -> bool:
        """Whether so many rows are stored; what is stored behind an open row is what a reader could miss."""
        nonlocal ahead
        job = get_job(house.api, house.actor, load.job_id)
        done = job.completed_count + job.failed_count
        ahead = max(ahead, done - (job.rows_in_order if job.rows_in_order is not None else done))
        return done >= goal

    for kill in range(1, 4):
        house.wait_for(lambda kill=kill: gap(kill * LONG_ROWS // 5), "rows are stored")  # type: ignore[misc]
        workers.pop(0).kill()
        workers.append(house.start_worker(delay_ms=DELAY_MS))
    if end == "cancelled":
        cancel_job(house.api, house.actor, load.job_id)

    def ended() -> bool:
        gap(0)
        return house.state(load.job_id) not in LIVE_JOBS

    house.wait_for(ended, "the job ends", 90)
    for poller in pollers:
        poller.over.set()
    for thread in threads:
        thread.join(30)
    assert house.state(load.job_id) == end
    assert ahead > 0, "no row was stored behind an open one: nothing was shown"
    output, errors = pollers
    seen = Counter(output.rows + errors.rows)
    missed = sum(row not in seen for row in range(1, LONG_ROWS + 1))
    doubled = sum(count - 1 for count in seen.values())
    assert [poller.got for poller in pollers] == [poller.whole() for poller in pollers], "in order, as one reading gives it"
    counted = house.count([load])
    assert (missed, doubled) == (0, 0)
    verdict(
        Counters(counted.lost + missed, counted.doubled + doubled, counted.wrong, counted.unaudited, counted.miscounted),
        polls=output.polls + errors.polls,
        stored_ahead=ahead,
        recomputed_rows=counted.recomputed,
    )
