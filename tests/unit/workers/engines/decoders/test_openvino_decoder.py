"""What is asked of OpenVINO GenAI, and what is not, without it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from db.errors import TextmillError
from workers.batches.outcomes import EngineBroken, FailedRow, OutOfMemory
from workers.batches.policy import Policy
from workers.engines.contract.decoding import DecoderRow, Generation
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.engines.decoders.openvino_decoder import OpenVinoDecoder, OpenVinoSlots, refused
from workers.grammars.grammar import Grammar
from workers.models.card import ModelCard

IDS = np.array([3, 9], np.int32)
END = 1
POLICY = Policy(budget_tokens=65, padded=False, max_rows=4)


class Handle:
    """Of an answer of two tokens, or of one whose keys and values have no room."""

    def __init__(self, *, is_ignored: bool) -> None:
        self.status = "IGNORED" if is_ignored else "RUNNING"
        self._ids = [] if is_ignored else [7, END]

    def get_status(self) -> str:
        return self.status

    def can_read(self) -> bool:
        return bool(self._ids)

    def read(self) -> dict[int, Any]:
        return {0: SimpleNamespace(generated_ids=[self._ids.pop(0)])}

    def cancel(self) -> None:
        self.status = "CANCEL"


class Pipeline:
    def __init__(self, fault: BaseException | None = None) -> None:
        self._fault = fault

    def step(self) -> None:
        if self._fault is not None:
            raise self._fault


class Decoder:
    """In the place of an `OpenVinoDecoder`. ``ignored`` and ``refused``: rows of which the pipeline says so."""

    _genai = SimpleNamespace(GenerationStatus=SimpleNamespace(RUNNING="RUNNING", IGNORED="IGNORED"))
    size = 100
    wording = SimpleNamespace(
        end_ids=[END], tokenizer=SimpleNamespace(decode=lambda ids: "a" * len(ids), id_to_token=lambda token: "a" if token else "")
    )

    def __init__(self, *pipelines: Pipeline | BaseException) -> None:
        self._pipelines = list(pipelines)
        self.ignored: list[DecoderRow] = []
        self.refused: dict[DecoderRow, Exception] = {}
        self.slots = OpenVinoSlots(cast(OpenVinoDecoder, self), Pipeline(), POLICY)

    def pipeline(self) -> Pipeline:
        assert self.slots._pipeline is None, "two would have the weights twice"
        made = self._pipelines.pop(0)
        if isinstance(made, BaseException):
            raise made
        return made

    def request(self, _pipeline: object, _number: int, row: DecoderRow) -> Handle:
        if row in self.refused:
            raise self.refused[row]
        return Handle(is_ignored=row in self.ignored)

    def run(self, *rows: DecoderRow) -> dict[DecoderRow, Any]:
        """One step."""
        self.slots.add(rows)
        return {one.row: one.answer for one in self.slots.step()}


def rows_of(count: int) -> list[DecoderRow]:
    return [DecoderRow(IDS, 4) for _ in range(count)]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"sampling": Sampling(top_logprobs=0)}, "unsupported_field:logprobs"),
        ({"sampling": Sampling(logit_bias={3: 1.0})}, "unsupported_field:logit_bias"),
        ({"asked": GenerateRequest(grammar=Grammar("regex", "a+", "guided_regex"))}, "unsupported_field:guided_regex"),
        ({"sampling": Sampling(repetition_penalty=1e-50)}, "invalid_field:repetition_penalty:a number that is not 0 in 32 bits"),
        ({"ids": IDS + 91}, "invalid_field:prompt:tokens of the model, which are below 100"),
        ({"sampling": Sampling(1.0, 5, 0.9, 0.1, 1.1, 0.5, 0.5, seed=3), "stop": ("a",), "asked": GenerateRequest()}, None),
    ],
)
def test_what_the_pipeline_cannot_do_is_refused_by_name(asked: dict[str, Any], code: str | None) -> None:
    assert refused(DecoderRow(**{"ids": IDS, "max_tokens": 4, **asked}), 100) == code


@pytest.mark.parametrize("sampling", [Sampling(1.0, min_p=1.0), Sampling(1.0, min_p=0.99999999), Sampling(1.0, top_p=1e-50)])
def test_what_is_at_the_edge_of_32_bits_is_asked_as_what_is_nearest_to_it(sampling: Sampling) -> None:
    class Config(SimpleNamespace):
        def validate(self) -> None:
            assert 0 <= np.float32(self.min_p) < 1
            assert 0 < np.float32(self.top_p) <= 1
            self.was_validated = True

    decoder = object.__new__(OpenVinoDecoder)
    decoder._genai, decoder.wording = SimpleNamespace(GenerationConfig=Config), cast(Any, SimpleNamespace(end_ids=[END]))
    asked = decoder._asked(DecoderRow(IDS, 4, sampling))
    assert asked.was_validated
    assert (asked.min_p, asked.top_p) == (pytest.approx(sampling.min_p), pytest.approx(sampling.top_p))


def test_a_row_that_the_pipeline_does_not_take_fails_alone() -> None:
    decoder, (one, strange, odd, other) = Decoder(), rows_of(4)
    decoder.refused = {strange: RuntimeError("Check 'x < 1' failed: a secret"), odd: OverflowError("a secret")}
    answers = decoder.run(one, strange, odd, other)
    assert answers[strange] == answers[odd] == FailedRow("engine_error")
    assert [answers[row] for row in (one, other)] == [Generation("a", [7], "stop")] * 2


def test_a_row_whose_keys_and_values_have_no_room_is_told_so() -> None:
    decoder, (one, large) = Decoder(), rows_of(2)
    decoder.ignored = [large]
    assert decoder.run(one, large) == {one: Generation("a", [7], "stop"), large: FailedRow("out_of_memory")}


@pytest.mark.parametrize("fault", [RuntimeError("std::bad_alloc"), MemoryError(), RuntimeError("CPU: out of memory")])
def test_a_step_that_lacks_memory_says_so_and_the_next_one_has_another_pipeline(fault: BaseException) -> None:
    decoder, rows = Decoder(Pipeline()), rows_of(2)
    decoder.slots._pipeline = Pipeline(fault)
    with pytest.raises(OutOfMemory):
        decoder.run(*rows)
    assert decoder.slots.room().rows == 4
    assert decoder.run(*rows) == dict.fromkeys(rows, Generation("a", [7], "stop"))


def test_memory_that_is_lacking_for_a_new_row_is_no_fault_of_the_row() -> None:
    decoder, [row] = Decoder(), rows_of(1)
    decoder.refused = {row: RuntimeError("std::bad_alloc")}
    with pytest.raises(OutOfMemory):
        decoder.run(row)


def test_a_pipeline_that_cannot_be_made_again_is_no_fault_of_the_rows() -> None:
    decoder, rows = Decoder(RuntimeError("its folder: /a/secret")), rows_of(2)
    decoder.slots._pipeline = Pipeline(RuntimeError("odd"))
    with pytest.raises(RuntimeError, match="odd"):
        decoder.run(*rows)
    with pytest.raises(EngineBroken):
        decoder.run(*rows)


def test_what_is_held_is_counted_while_rows_leave() -> None:
    decoder, rows = Decoder(), rows_of(2)
    slots = decoder.slots

    class Leaving(list[int]):
        def __len__(self) -> int:
            slots._running.pop(rows[1], None)  # as the lane does meanwhile
            return 3

    rows[0].ids = cast(Any, Leaving())
    slots._running = {row: (None, SimpleNamespace(ids=[5])) for row in rows}  # type: ignore[misc]
    assert slots.kv_tokens() == 4 + 3


def test_no_keys_and_values_are_kept_when_their_row_has_ended() -> None:
    decoder = object.__new__(OpenVinoDecoder)
    made = SimpleNamespace(SchedulerConfig=SimpleNamespace, ContinuousBatchingPipeline=lambda _folder, scheduler, *_: scheduler)
    decoder._genai, decoder._folder, decoder._properties = made, Path(), {}
    decoder._policy = Policy(budget_tokens=65, padded=False, max_rows=4)
    scheduler = decoder.pipeline()
    assert (scheduler.enable_prefix_caching, scheduler.max_num_seqs, scheduler.num_kv_blocks) == (False, 4, 7)


def test_without_the_package_it_is_a_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    card = ModelCard.unusable("local:own", "decoder", "", folder=tmp_path)
    with pytest.raises(TextmillError, match=r"local:own needs .*textmill\[openvino-genai\]") as caught:
        OpenVinoDecoder(card, tmp_path, policy=Policy(budget_tokens=64, padded=False), threads=1, exact=False)
    assert caught.value.code == "engine_not_available"
