"""F18 to F20: a model that runs out of memory, loses its device, or answers nonsense."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from tests.faults.broken_worker import FEW_ROWS, SHORT
from tests.faults.conftest import Verdict
from tests.faults.counters import Load
from tests.faults.house import House, texts
from tests.faults.struck import (
    BATCH_ROWS,
    MARGIN_SECONDS,
    POLL_SECONDS,
    crash_attempts,
    redone,
    seconds_to_progress,
    shards_of,
    strike,
)
from tests.workers.submitting import row, submit
from workers.engines.fake import MARKS, expected_text, read_calls
from workers.host.process import EX_SOFTWARE

SHORT_CALLS = 40
LEASE_THAT_OUTLASTS_THE_END = 6.0  # of a process that closes everything it has, so that what it held is seen


def marked(marks: Mapping[int, str]) -> list[str]:
    """Sixty texts of one length, so that those with a mark share a batch with their neighbours."""
    return [f"{text}{marks.get(at, '')}".ljust(80, ".") for at, text in enumerate(texts(60))]


# Memory.


@pytest.mark.matrix
@pytest.mark.fault("F18", "batches of more than four rows do not fit, for a while")
def test_batches_are_halved_until_they_fit_and_grow_back(house: House, verdict: Verdict) -> None:
    load = house.load(texts(2_000))
    house.start_dispatcher()
    worker = house.start_broken_worker("short-of-memory", FAULT_AT=str(SHORT_CALLS), TEXTMILL_LANES="1")
    house.wait_all_completed([load])
    sizes = [len(call.digests) for call in read_calls(house.calls)]
    refused = [size for size in sizes[:SHORT_CALLS] if size > FEW_ROWS]
    fitted = [size for size in sizes[:SHORT_CALLS] if size <= FEW_ROWS]
    counted = verdict(house.count([load]), halvings=len(refused), before=max(refused), then=max(fitted), after=max(sizes[SHORT_CALLS:]))
    assert fitted
    assert max(sizes[SHORT_CALLS:]) >= 0.75 * max(refused), "batches grow back to what they were, but for how rows happen to fall"
    assert counted.recomputed <= sum(refused) <= BATCH_ROWS * len(refused)
    assert worker.alive


@pytest.mark.matrix
@pytest.mark.fault("F18", "a row that fits only alone, and one that does not fit at all")
def test_a_row_that_fits_only_alone_is_done_and_one_that_never_fits_fails_alone(house: House, verdict: Verdict) -> None:
    load = house.load(marked({20: MARKS["crowded"], 40: MARKS["memory"]}), failures={40: "out_of_memory"})
    house.start_dispatcher()
    worker = house.start_worker()
    house.wait_all_completed([load])
    verdict(house.count([load]))
    assert worker.alive
    assert {shard.error_attempts for _load, shard in shards_of(house, [load])} == {0}


@pytest.mark.matrix
@pytest.mark.fault("F19", "a MemoryError in the engine")
def test_a_memory_error_in_the_engine_costs_a_batch_and_no_row(house: House, verdict: Verdict) -> None:
    load = house.load(texts(500))
    house.start_dispatcher()
    worker = house.start_broken_worker("memory-error", FAULT_AT="5")
    house.wait_all_completed([load])
    counted = verdict(house.count([load]))
    assert 0 < counted.recomputed <= BATCH_ROWS
    assert worker.alive


@pytest.mark.matrix
@pytest.mark.fault("F19", "a MemoryError outside the engine, while rows are opened")
def test_a_memory_error_in_a_shards_thread_puts_the_shard_off_and_leaves_the_slot_usable(house: House, verdict: Verdict) -> None:
    load = house.load(texts(500))
    house.start_dispatcher()
    worker = house.start_broken_worker("memory-error-in-open", FAULT_AT="2", TEXTMILL_THREADS="1")
    house.wait_all_completed([load])
    counted = verdict(house.count([load]))
    assert counted.recomputed == 0
    errors = Counter(shard.last_error for _load, shard in shards_of(house, [load]) if shard.error_attempts)
    assert errors == {"out_of_memory": 1}
    assert worker.alive


# The device.


@pytest.mark.matrix
@pytest.mark.fault("F19", "a sticky error of the device: the process ends and is not used again")
def test_a_worker_that_lost_its_device_ends_and_its_shards_go_on_elsewhere(house: House, verdict: Verdict) -> None:
    lost = strike(house, "device-lost", at=20, victim={"TEXTMILL_LEASE_SECONDS": str(LEASE_THAT_OUTLASTS_THE_END)})
    assert lost.victim.popen.returncode == EX_SOFTWARE
    assert "the device is lost" in lost.victim.log
    rec_s = seconds_to_progress(house, lost)
    assert rec_s <= LEASE_THAT_OUTLASTS_THE_END + POLL_SECONDS + MARGIN_SECONDS
    house.wait_all_completed(lost.loads)
    counted = verdict(house.count(lost.loads), rec_s=round(rec_s, 2), held_shards=len(lost.holds))
    assert counted.recomputed == redone(house, lost.victim.popen.pid, lost.loads) <= lost.open_rows
    assert crash_attempts(house, lost.loads) == len(lost.holds)


# Answers.


@pytest.mark.fault("F20", "numbers that are none, and a list of the wrong length")
def test_a_row_that_spoils_its_answer_fails_alone(house: House, verdict: Verdict) -> None:
    load = house.load(marked({10: MARKS["nan"], 30: SHORT}), failures={10: "non_finite_output", 30: "engine_error"})
    house.start_dispatcher()
    worker = house.start_broken_worker("short-answers")
    house.wait_all_completed([load])
    counted = verdict(house.count([load]))
    assert 0 < counted.recomputed <= BATCH_ROWS * 7, "each halving of a batch runs its rows once more"
    assert worker.alive


@pytest.mark.matrix
@pytest.mark.fault("F20", "an empty generation, and a spoilt one")
def test_a_prompt_without_an_answer_fails_alone(house: House, verdict: Verdict) -> None:
    prompts = [f"prompt {at}" for at in range(40)]
    prompts[7] += MARKS["empty"]
    prompts[23] += MARKS["nan"]
    rows = [row(at, {"messages": [{"role": "user", "content": prompt}], "max_tokens": 8}) for at, prompt in enumerate(prompts)]
    job_id = submit(house.api, house.actor, rows, task="generate")
    house.start_dispatcher()
    worker = house.start_worker()
    house.wait_completed(job_id)
    load = Load(job_id, house.actor, prompts, {7: "empty_generation", 23: "non_finite_output"}, is_right=_is_continuation)
    counted = verdict(house.count([load]))
    assert counted.recomputed == 0
    assert worker.alive


def _is_continuation(prompt: str, answer: Any) -> bool:
    return bool(answer["choices"][0]["message"]["content"] == expected_text(prompt, 8))
