"""ONNX Runtime's engine: lanes share its session, a spoilt row shows, an error says nothing of the texts. Answers: test_families.py."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from tests.workers.families import make
from workers.arrays import Ids
from workers.batches.outcomes import OutOfMemory
from workers.engines.contract.plan import NumberFormat
from workers.engines.encoders import onnx_encoder
from workers.engines.encoders.architecture import Architecture, read
from workers.engines.encoders.onnx_encoder import OnnxEncoder
from workers.engines.encoders.onnx_graph import OnnxGraph
from workers.models.card import ModelCard
from workers.models.folders import local_model
from workers.models.provision import with_digest

FORMATS: tuple[NumberFormat, ...] = ("float32", "int8")
WORD, SPOILT = 6, 7
BATCH: list[Ids] = [np.array(ids, np.int32) for ids in ([1, 5, 2], [1, 6, 9, 10, 11, 5, 2], [1, 2], [1, 8, 8, 12, 2])]


@dataclass(frozen=True, slots=True)
class Made:
    card: ModelCard
    folder: Path
    architecture: Architecture

    def load(self, number_format: NumberFormat = "float32", *, threads: int = 1, architecture: Architecture | None = None) -> OnnxEncoder:
        return OnnxEncoder(
            self.card, self.folder, number_format=number_format, threads=threads, architecture=architecture or self.architecture
        )


@pytest.fixture(params=[False, True], ids=["encoder", "classifier"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("TEXTMILL_MODEL_FOLDERS", str(tmp_path))
    make("bert", tmp_path / "small", classifier=request.param)
    card = local_model("local:small")
    assert card is not None
    return Made(with_digest(card, tmp_path / "small"), tmp_path / "small", read(tmp_path / "small"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("number_format", FORMATS)
def test_several_lanes_at_once_get_the_answers_of_one(made: Made, number_format: NumberFormat, threads: int) -> None:
    engine = made.load(number_format, threads=threads)
    batches = [engine.prepare(BATCH[first:last]) for first in range(4) for last in range(first + 1, 5)]
    alone = [engine.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as lanes:
        together = list(lanes.map(engine.run, batches * 10))
    for found, expected in zip(together, alone * 10, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_row_that_the_model_spoils_is_not_a_number_and_its_neighbours_go_on(made: Made, number_format: NumberFormat) -> None:
    words = made.architecture.words.clone()
    words[SPOILT] = float("nan")
    engine = made.load(number_format, architecture=replace(made.architecture, words=words))
    spoilt = np.array([1, WORD, SPOILT, 2], np.int32)
    found = engine.run(engine.prepare([BATCH[0], spoilt, BATCH[1]]))
    assert np.isnan(found[1]).all()
    assert found[[0, 2]] == pytest.approx(engine.run(engine.prepare(BATCH[:2])), abs=2e-5 if number_format == "float32" else 0.05)


class Failing:
    """A session whose every run raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def run(self, *_: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 460800000"),
        RuntimeError("Non-zero status code returned while running MatMul node. Status Message: std::bad_alloc"),
    ],
    ids=["python", "arena", "kernel"],
)
def test_a_batch_that_does_not_fit_is_told_as_such(made: Made, error: Exception) -> None:
    engine = made.load()
    engine._session = Failing(error)
    with pytest.raises(OutOfMemory) as caught:
        engine.run(engine.prepare(BATCH))
    assert caught.value.__suppress_context__


def test_an_error_quotes_no_token_anywhere(made: Made, capfd: pytest.CaptureFixture[str]) -> None:
    engine = made.load()
    with pytest.raises(RuntimeError, match=r"^ONNX Runtime failed \(InvalidArgument\)$") as caught:
        engine.run(engine.prepare([np.array([1, 4242, 2], np.int32)]))
    assert caught.value.__suppress_context__
    assert capfd.readouterr() == ("", "")


def test_a_token_without_any_activation_stays_a_number_in_int8(made: Made) -> None:
    """A ReLU may leave zeros only, and a scale of zero would make them NaN."""
    layers = tuple(replace(layer, up=replace(layer.up, bias=layer.up.bias - 100)) for layer in made.architecture.layers)
    silent = replace(made.architecture, layers=layers, activation="relu")
    exact, found = (made.load(form, architecture=silent) for form in FORMATS)
    batch = exact.prepare(BATCH)
    assert found.run(batch) == pytest.approx(exact.run(batch), abs=0.1)


def test_a_session_has_weights_of_its_own(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[OnnxGraph] = []

    def keep(*arguments: Any, **options: Any) -> OnnxGraph:
        graphs.append(OnnxGraph(*arguments, **options))
        graphs[-1].weights = {name: array.copy() for name, array in graphs[-1].weights.items()}
        return graphs[-1]

    monkeypatch.setattr(onnx_encoder, "OnnxGraph", keep)
    engine = made.load()
    before = engine.run(engine.prepare(BATCH))
    for array in graphs[0].weights.values():
        array[...] = 0
    assert np.array_equal(engine.run(engine.prepare(BATCH)), before)


def test_the_model_itself_is_small_and_holds_no_weights(made: Made) -> None:
    graph = OnnxGraph(made.architecture, eight_bits=False)
    assert graph.model.ByteSize() < 20_000
    assert sum(array.nbytes for array in graph.weights.values()) > 20_000
