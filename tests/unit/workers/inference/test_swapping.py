"""A better way takes the place of the one before between two chunks: nothing is lost, answered twice, or answered in two ways."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.errors import TextmillError
from tests.workers.asking import classify, embed, label_of, vector_in
from tests.workers.runtimes import Device
from workers.batches.outcomes import Stopped
from workers.batches.policy import Policy
from workers.batches.ticket import Ticket
from workers.engines.contract.generation import GenerateRequest
from workers.engines.contract.plan import Plan
from workers.engines.fake import FakeDecoder, FakeEncoder, expected_label, vector_of
from workers.engines.loading import LoadedEngine
from workers.inference import runtime as loading
from workers.inference.runtime import Runtime

ENCODER = "fake-encoder"
JOB = Ticket(job=b"j")
LABELS = ["red", "green", "blue"]
BETTER = Plan("cpu", "float32", 1, Policy(512, padded=False))


class Better(FakeEncoder):
    """The same answers turned around, so that it shows who gave one."""

    @property
    def model_version(self) -> str:
        return "fake-encoder@2"

    def run(self, prepared: Any) -> Any:
        return -super().run(prepared)


@contextmanager
def swapping(runtime: Runtime) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=runtime._swap, args=(ENCODER, Better(), BETTER))
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


def lanes_of(runtime: Runtime) -> int:
    return sum(thread.name.startswith(f"{ENCODER}-lane") for thread in threading.enumerate())


def wait_for_the_new(runtime: Runtime) -> None:
    while runtime._encoders[ENCODER].engine.model_version != "fake-encoder@2":
        pass


def test_the_next_chunk_is_answered_in_the_new_way_and_the_lanes_before_are_gone(fake_runtime: Runtime) -> None:
    assert fake_runtime.encoder(ENCODER).engine.model_version == "fake-encoder@1"
    with swapping(fake_runtime):
        pass
    after = fake_runtime.encoder(ENCODER)
    assert after.engine.model_version == "fake-encoder@2"
    assert np.array_equal(after.answer(["a"]).vectors[0], -vector_of("a"))
    del after
    assert lanes_of(fake_runtime) == BETTER.lanes
    assert fake_runtime._retired == []


def test_who_has_the_encoder_before_uses_it_to_the_end(fake_runtime: Runtime) -> None:
    before = [fake_runtime.encoder(ENCODER)]
    with swapping(fake_runtime) as swap:
        wait_for_the_new(fake_runtime)
        assert fake_runtime.encoder(ENCODER).engine.model_version == "fake-encoder@2", "others need not wait"
        answered = before[0].answer(["a"])
        assert np.array_equal(answered.vectors[0], vector_of("a"))
        assert swap.is_alive()
        before.clear()


def test_a_call_that_was_stopped_holds_the_encoder_before_no_longer(fake_runtime: Runtime) -> None:
    stop = threading.Event()
    stop.set()
    gc.disable()
    try:
        with suppress(Stopped):
            fake_runtime.encoder(ENCODER).answer(["a"], None, Ticket(stop))
        with swapping(fake_runtime):
            pass
    finally:
        gc.enable()


def test_a_chunk_whose_labels_are_embedded_after_the_swap_is_answered_in_one_way(
    fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    swaps: list[threading.Thread] = []
    run = FakeEncoder.run

    def swap_meanwhile(self: FakeEncoder, prepared: Any) -> Any:
        if not swaps:
            swaps.append(threading.Thread(target=fake_runtime._swap, args=(ENCODER, Better(), BETTER)))
            swaps[0].start()
            wait_for_the_new(fake_runtime)
        return run(self, prepared)

    monkeypatch.setattr(FakeEncoder, "run", swap_meanwhile)
    ran, (row,) = classify(fake_runtime, ENCODER, ["a text"], [LABELS])
    swaps[0].join(20)
    assert (label_of(row), ran.model_version) == (expected_label("a text", LABELS), "fake-encoder@1")


def test_a_text_that_the_way_before_answered_is_asked_again_in_the_new_one(fake_runtime: Runtime) -> None:
    assert np.array_equal(fake_runtime.encoder(ENCODER).answer(["a"], None, JOB).vectors[0], vector_of("a"))
    with swapping(fake_runtime):
        pass
    assert np.array_equal(fake_runtime.encoder(ENCODER).answer(["a"], None, JOB).vectors[0], -vector_of("a"))


def test_rows_of_many_threads_are_each_answered_once_across_a_swap(fake_runtime: Runtime) -> None:
    fake_runtime.warm(ENCODER)
    texts = [f"text {number}" for number in range(50)]
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(embed, fake_runtime, ENCODER, texts, job=b"j") for _ in range(100)]
        with swapping(fake_runtime):
            outcomes = [call.result(20) for call in calls]
    of = np.stack([vector_of(text) for text in texts])
    for ran, rows in outcomes:
        sign = {"fake-encoder@1": 1, "fake-encoder@2": -1}[ran.model_version]
        assert np.allclose([vector_in(row) for row in rows], sign * of, atol=1e-7)


def test_a_process_that_ends_ends_what_was_replaced_too(fake_engine: None, tmp_path: Path) -> None:
    runtime = Runtime(Device(tmp_path))
    kept = runtime.encoder(ENCODER)
    with swapping(runtime):
        wait_for_the_new(runtime)
        runtime.close()
    assert lanes_of(runtime) == 0
    assert kept.model_id == ENCODER


def test_a_decoder_is_put_in_anew_too_and_who_has_the_one_before_uses_it_to_the_end(fake_runtime: Runtime) -> None:
    before = [fake_runtime.decoder("fake-decoder")]
    swap = threading.Thread(target=fake_runtime._swap, args=("fake-decoder", FakeDecoder(), BETTER))
    swap.start()
    while fake_runtime.decoder("fake-decoder") is before[0]:
        pass
    request = GenerateRequest(prompt="a", max_tokens=1)
    told = before[0].answer([request])
    assert fake_runtime.decoder("fake-decoder").answer([request]) == told
    assert swap.is_alive()
    before.clear()
    swap.join(20)
    assert not swap.is_alive()
    assert fake_runtime.decoder("fake-decoder").batcher.lanes == BETTER.lanes
    assert fake_runtime._retired == []


def test_a_decoder_that_is_open_is_calibrated_beside_its_work(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[tuple[str, Plan]] = []
    monkeypatch.setattr(loading, "load_decoder", lambda *_: LoadedEngine(FakeDecoder(), BETTER, is_open=True))
    monkeypatch.setattr(fake_runtime._calibrator, "add", lambda *task: added.append(task))
    fake_runtime.load("fake-decoder")
    assert added == [("fake-decoder", BETTER)]


def test_what_is_loaded_is_told_while_it_lasts(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str | None] = []
    runtime = Runtime(Device(tmp_path), changed=lambda: told.append(runtime.loading[0] if runtime.loading else None))
    runtime.warm(ENCODER)
    assert told == [ENCODER, None]
    assert runtime.loaded == [ENCODER]
    told.clear()

    def fail(*_: object) -> None:
        raise TextmillError("broken", code="model_broken")

    monkeypatch.setattr(loading, "load_decoder", fail)
    with pytest.raises(TextmillError):
        runtime.load("fake-decoder")
    assert told == ["fake-decoder", None]
    told.clear()
    assert runtime.unload(0.0) == [ENCODER]
    assert (told, runtime.loaded) == ([None], [])
    runtime.close()
