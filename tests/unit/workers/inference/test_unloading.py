"""Models that nobody uses are let go of between two uses, and loaded again when they are asked for."""

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.workers.inference.test_swapping import BETTER, Better
from tests.workers.asking import embed, vector_in
from tests.workers.decoder_folders import make
from tests.workers.runtimes import Device
from workers.batches.outcomes import OutOfMemory
from workers.engines.contract.generation import GenerateRequest
from workers.engines.fake import FakeEncoder, expected_text, vector_of
from workers.engines.loading import memory_of
from workers.inference import runtime as loading
from workers.inference.runtime import NoRoom, Runtime
from workers.models import registry

ENCODER, DECODER = "fake-encoder", "fake-decoder"


def loaded(runtime: Runtime) -> set[str]:
    return {*runtime._encoders, *runtime._decoders}


def threads_of(model: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(model)]


def use(runtime: Runtime, *models: str) -> None:
    for model in models:
        with runtime.using(model):
            pass


def test_a_model_that_nobody_uses_is_gone_with_its_threads_and_comes_again(fake_runtime: Runtime) -> None:
    use(fake_runtime, ENCODER, DECODER)
    assert set(fake_runtime.unload(0.0)) == {ENCODER, DECODER}
    assert loaded(fake_runtime) == set()
    assert threads_of("fake-") == []
    assert fake_runtime._retired == []
    assert np.array_equal(fake_runtime.encoder(ENCODER).answer(["a"]).vectors[0], vector_of("a"))
    (said,) = fake_runtime.decoder(DECODER).answer([GenerateRequest(prompt="b")])
    assert said.text == expected_text("b")  # type: ignore[union-attr]


def test_a_model_in_use_stays_however_long_its_call_takes(fake_runtime: Runtime) -> None:
    with fake_runtime.using(ENCODER) as lanes:
        assert lanes == 2
        assert fake_runtime.unload(0.0) == []
        with fake_runtime.using(ENCODER):
            pass
        assert fake_runtime.unload(0.0) == []
        assert np.array_equal(fake_runtime.encoder(ENCODER).answer(["a"]).vectors[0], vector_of("a"))
    assert fake_runtime.unload(0.0) == [ENCODER]


def test_a_model_that_was_used_lately_stays(fake_runtime: Runtime) -> None:
    use(fake_runtime, ENCODER)
    assert fake_runtime.unload(3600.0) == []
    assert loaded(fake_runtime) == {ENCODER}


@pytest.mark.parametrize(("first", "second"), [(ENCODER, DECODER), (DECODER, ENCODER)])
def test_the_least_recently_used_goes_first(fake_runtime: Runtime, first: str, second: str) -> None:
    use(fake_runtime, second, first, second)
    assert fake_runtime.unload(0.0, most=1) == [first]
    assert loaded(fake_runtime) == {second}


def test_one_that_is_to_be_kept_and_one_in_use_bar_no_other_from_going(fake_runtime: Runtime) -> None:
    use(fake_runtime, ENCODER, DECODER)
    assert fake_runtime.unload(0.0, keep=(ENCODER,), most=1) == [DECODER]
    use(fake_runtime, DECODER)
    with fake_runtime.using(ENCODER):
        assert fake_runtime.unload(0.0, most=1) == [DECODER]


def test_a_use_that_failed_to_load_holds_nothing(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(loading, "load_encoder", None)
        with pytest.raises(TypeError):
            use(fake_runtime, ENCODER)
    use(fake_runtime, ENCODER)
    assert fake_runtime.unload(0.0) == [ENCODER]


def test_who_has_the_model_still_uses_it_to_the_end(fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LET_GO_SECONDS", 0.0)
    kept = fake_runtime.encoder(ENCODER)
    assert fake_runtime.unload(0.0) == [ENCODER]
    assert np.array_equal(kept.answer(["a"]).vectors[0], vector_of("a"))


def test_a_better_way_for_a_model_that_was_unloaded_is_let_go_of(fake_runtime: Runtime) -> None:
    use(fake_runtime, ENCODER)
    fake_runtime.unload(0.0)
    fake_runtime._swap(ENCODER, Better(), BETTER)
    assert loaded(fake_runtime) == set()
    assert fake_runtime.encoder(ENCODER).engine.model_version == "fake-encoder@1"


def short_of_memory(times: int, error: type[Exception]) -> Callable[..., Any]:
    left, load = [error] * times, loading.load_encoder

    def fail_first(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return load(*arguments)

    return fail_first


@pytest.mark.parametrize("error", [OutOfMemory, MemoryError])
def test_where_there_is_no_room_for_a_model_those_go_that_nobody_uses(
    fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    use(fake_runtime, DECODER)
    monkeypatch.setattr(loading, "load_encoder", short_of_memory(1, error))
    use(fake_runtime, ENCODER)
    assert loaded(fake_runtime) == {ENCODER}


def test_before_a_model_is_loaded_as_many_go_as_its_memory_needs_the_least_recently_used_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for two."""
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path / "models"))
    names = ["a", "b", "c", "d"]
    for name in names:
        make(tmp_path / "models" / name, template=None)
    runtime = Runtime(Device(tmp_path), free_bytes=lambda: size * (2 - len(loaded(runtime))))
    size = memory_of(registry.get("local:a"), runtime._settings)
    assert size == 2 * (tmp_path / "models" / "a" / "model.safetensors").stat().st_size
    one, two, three, four = (f"local:{name}" for name in names)
    engine = weakref.ref(runtime.decoder(one).engine)
    use(runtime, one, two, one, three)
    assert loaded(runtime) == {one, three}
    with runtime.using(three):
        use(runtime, four)
        assert loaded(runtime) == {three, four}
        assert engine() is None
        with runtime.using(four), runtime.using(two):
            assert loaded(runtime) == {two, three, four}, "what is in use stays, and what is only likely refuses nothing"
    runtime.close()


@pytest.mark.parametrize(("times", "left"), [(1, {DECODER}), (2, set())])
def test_a_model_for_which_no_room_can_be_made_says_so(
    fake_runtime: Runtime, monkeypatch: pytest.MonkeyPatch, times: int, left: set[str]
) -> None:
    monkeypatch.setattr(loading, "load_encoder", short_of_memory(times, OutOfMemory))
    with fake_runtime.using(DECODER):
        if not left:
            fake_runtime._users[DECODER] -= 1
        with pytest.raises(NoRoom) as raised, fake_runtime.using(ENCODER):
            pass
        if not left:
            fake_runtime._users[DECODER] += 1
    assert raised.value.code == "out_of_memory"
    assert loaded(fake_runtime) == left


def test_every_row_is_answered_while_models_come_and_go(fake_runtime: Runtime) -> None:
    texts = [f"text {number}" for number in range(20)]
    over = threading.Event()

    def answer() -> bool:
        with fake_runtime.using(ENCODER):
            _, rows = embed(fake_runtime, ENCODER, texts)
        return all(np.allclose(vector_in(row), vector_of(text), atol=1e-7) for row, text in zip(rows, texts, strict=True))

    def come_and_go() -> int:
        gone = 0
        while not (over.is_set() and gone):
            gone += len(fake_runtime.unload(0.0))
        return gone

    with ThreadPoolExecutor(5) as threads:
        going = threads.submit(come_and_go)
        calls = [threads.submit(answer) for _ in range(60)]
        answered = [call.result(60) for call in calls]
        over.set()
        assert going.result(20) > 0
    assert all(answered)


def test_a_process_that_ends_meanwhile_leaves_no_thread(fake_engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LET_GO_SECONDS", 0.0)
    runtime = Runtime(Device(tmp_path))
    kept = runtime.encoder(ENCODER)
    assert runtime.unload(0.0) == [ENCODER]
    runtime.close()
    assert isinstance(kept.engine, FakeEncoder)
    assert [name for name in threads_of(ENCODER) if "lane" in name] == []
