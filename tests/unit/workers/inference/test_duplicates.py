"""Exact duplicates inside a job are computed once, and every row is answered as if it had been alone."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.asking import body_of, classify
from tests.workers.runtimes import Device
from workers.batches.ticket import Ticket
from workers.engines.fake import MARKS, vector_of
from workers.inference.duplicates import ENTRY_BYTES, Duplicates
from workers.inference.runtime import Runtime

MODEL = "fake-encoder"
JOB, OTHER_JOB = b"job-one", b"job-two"


@pytest.fixture
def runtime(fake_engine: None, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(Device(tmp_path))
    yield made
    made.close()


def computed(runtime: Runtime, texts: list[str], job: bytes | None) -> int:
    """Rows that went through the model."""
    answered = runtime.encoder(MODEL).answer(texts, None, Ticket(job=job))
    assert not answered.failed
    assert np.array_equal(answered.vectors, np.stack([vector_of(text) for text in texts]))
    assert answered.tokens == [len(text) for text in texts]  # usage is each row's own
    return len(texts) - int(answered.share.duplicate_rows)


def test_a_text_twice_in_a_call_is_computed_once(runtime: Runtime) -> None:
    assert computed(runtime, ["a", "b", "a", "a"], JOB) == 2


def test_a_text_of_an_earlier_shard_of_the_job_is_known(runtime: Runtime) -> None:
    assert computed(runtime, ["a", "b"], JOB) == 2
    assert computed(runtime, ["b", "c", "a"], JOB) == 1
    assert computed(runtime, ["b", "a"], JOB) == 0


def test_another_job_learns_nothing(runtime: Runtime) -> None:
    computed(runtime, ["a", "b"], JOB)
    assert computed(runtime, ["a", "b"], OTHER_JOB) == 2
    assert computed(runtime, ["a", "b"], None) == 2


def test_a_failure_is_each_duplicates_and_is_not_remembered(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = MARKS["nan"]
    for _ in range(2):
        answered = runtime.encoder(MODEL).answer([spoilt, "fine", spoilt], None, Ticket(job=JOB))
        assert answered.failed == {0: "non_finite_output", 2: "non_finite_output"}


def test_labels_of_duplicates_follow_each_rows_own_label_list(runtime: Runtime) -> None:
    _, rows = classify(runtime, MODEL, ["same", "same"], [["a", "b"], ["c", "d"]], job=JOB)
    assert [set(body_of(row)["scores"]) for row in rows] == [{"a", "b"}, {"c", "d"}]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.sampled_from(["", "a", "b", "ab", "ba", "aab"]), min_size=1, max_size=30))
def test_keys_are_equal_just_for_equal_tokens(texts: list[str]) -> None:
    keys = Duplicates().keys(JOB, MODEL, [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts])
    assert len(set(keys)) == len(set(texts))


def test_keys_of_two_processes_have_nothing_in_common() -> None:
    ids = [np.arange(3, dtype=np.int32)]
    assert Duplicates().keys(JOB, MODEL, ids) != Duplicates().keys(JOB, MODEL, ids)


def test_what_is_kept_stays_under_its_bytes(runtime: Runtime) -> None:
    store = Duplicates(capacity_bytes=10 * (ENTRY_BYTES + 32 * 4))
    keys = store.keys(JOB, MODEL, [np.array([number], np.int32) for number in range(25)])
    store.keep(keys, np.ones((25, 32), np.float32))
    assert list(store.find(keys)) == keys[-10:]


def test_the_least_recently_used_goes_first() -> None:
    store = Duplicates(capacity_bytes=2 * (ENTRY_BYTES + 4))
    first, second, third = store.keys(JOB, MODEL, [np.array([number], np.int32) for number in range(3)])
    store.keep([first, second], np.ones((2, 1), np.float32))
    store.find([first])
    store.keep([third], np.ones((1, 1), np.float32))
    assert set(store.find([first, second, third])) == {first, third}


@pytest.mark.parametrize("dimensions", [4, 32, 384])
def test_small_answers_take_no_more_memory_than_large_ones(dimensions: int) -> None:
    """What Python needs for an entry is counted: with the numbers alone, a million short answers took four times what was allowed."""
    capacity = 2**20
    store = Duplicates(capacity_bytes=capacity)
    tracemalloc.start()
    try:
        for first in range(0, 10_000, 500):
            keys = [number.to_bytes(16) for number in range(first, first + 500)]
            store.keep(keys, np.zeros((500, dimensions), np.float32))
        del keys
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.5 * capacity < taken < 1.3 * capacity
