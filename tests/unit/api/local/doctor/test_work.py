"""`textmill doctor` looks at the work, and tells an operator what to do."""

import shutil
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from api.local.doctor import work
from api.local.doctor.finding import Finding
from api.local.doctor.place import Place
from api.local.home.home import Home
from db.operators.fleet import WorkerRecord
from db.operators.health import Health, Stuck

NOW = datetime.now(UTC)


def health(**changes: object) -> Health:
    nothing = {
        "ready": 0,
        "leased": 0,
        "paused": 0,
        "expired_leases": 0,
        "oldest_ready_seconds": 0.0,
        "backlog": {},
        "abandoned_leases": 0,
        "not_offered": 0,
        "jobs": {},
        "workers": {},
    }
    return Health(**{**nothing, **changes})  # type: ignore[arg-type]


def a_worker(**changes: object) -> WorkerRecord:
    well = {
        "worker": "gpu-1:77",
        "device": "cuda:0",
        "threads": 4,
        "version": "1",
        "state": "running",
        "asked": None,
        "started_at": NOW,
        "seen_at": NOW,
        "progressed_at": NOW,
        "leases": 2,
        "rows_done": 10,
        "memory_bytes": 0,
        "silent_seconds": 1.0,
        "still_seconds": 1.0,
        "held": 2,
    }
    return WorkerRecord(**{**well, **changes})  # type: ignore[arg-type]


def bad(found: Sequence[Finding]) -> list[Finding]:
    wrong = [each for each in found if not each.ok]
    assert all(each.todo for each in wrong), "each says what to do"
    assert not any(each.todo for each in found if each.ok)
    return wrong


def test_a_message_that_is_none_of_ours_is_passed_over() -> None:
    for raw in (b"", b"{}", b'{"body": 7}', b'{"body": "bm8="}', b'{"body": "WzEsMiwzXQ=="}'):
        assert work.claim_check(raw) is None


# What the counts mean


def test_a_job_that_stands_still_is_named() -> None:
    job = uuid.uuid4()
    (found,) = bad([work.jobs([Stuck(job, "in_progress", 1234.5)], health(jobs={"in_progress": 1}))])
    assert f"batch_{job.hex} (in_progress for 1,234 s)" in found.found


def test_shards_without_a_message_count_only_while_nobody_works() -> None:
    assert bad([work.shards(health(ready=5, not_offered=5, oldest_ready_seconds=300.0))])
    assert not bad([work.shards(health(ready=5, not_offered=5, oldest_ready_seconds=5.0))])
    assert not bad([work.shards(health(ready=500, leased=4, not_offered=440, oldest_ready_seconds=900.0))])


def test_a_silent_worker_and_one_that_makes_no_progress_are_named() -> None:
    well, silent = a_worker(), a_worker(worker="gpu-2:5", silent_seconds=500.0)
    still = a_worker(worker="gpu-3:6", still_seconds=work.STILL_SECONDS + 1)
    idle = a_worker(worker="gpu-4:7", still_seconds=work.STILL_SECONDS + 1, leases=0)
    found = bad(list(work.living(health(ready=1), [well, silent, still, idle])))
    assert [each.check for each in found] == ["worker gpu-2:5", "worker gpu-3:6"]
    assert "holds 2 shard(s)" in found[0].found
    assert "gpu-3" in found[1].todo


def test_counts_that_do_not_add_up_are_found() -> None:
    job = uuid.uuid4()
    (found,) = bad([work.counts({job: 3}, 2)])
    assert found.found == f"batch_{job.hex} (3 rows without an outcome); 2 live shard(s) of jobs that have ended"


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("total", "free", "ok"), [(100, 20, True), (100, 4, False), (1_000, 15, True), (1_000, 9, False), (10, 2, True)])
def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, free: int, ok: bool) -> None:
    home = Home(tmp_path)
    home.postgres.mkdir()
    home.version_file.write_text("1\n")
    monkeypatch.delenv("TEXTMILL_DATABASE_URL", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(total << 30, (total - free) << 30, free << 30))
    (found,) = work.postgres_disk(Place.of(home))
    assert found.ok is ok
