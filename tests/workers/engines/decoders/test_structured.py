"""The real Gemma under grammars: whatever it would like to say, what it says is what was asked for."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from workers.batches.outcomes import FailedRow
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.engines.decoders.torch_decoder import TorchDecoder
from workers.grammars.compiling import meets
from workers.grammars.grammar import Grammar
from workers.inference.continuous import ContinuousBatcher
from workers.inference.decoder import Decoder
from workers.models import registry

SHORT = {"type": "string", "maxLength": 12}
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"name": SHORT, "age": {"type": "integer"}}, "required": ["name", "age"]},
    {
        "type": "object",
        "properties": {
            "at": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"enum": ["up", "down"]}}, "required": ["x", "y"]}
        },
        "required": ["at"],
    },
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "object", "properties": {"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}}, "required": ["code"]},
]


@pytest.fixture(scope="module")
def decoder(gemma_folder: Path) -> Decoder:
    engine = TorchDecoder(registry.get("gemma3-270m"), gemma_folder, device="cpu", number_format="float32")
    return Decoder(engine, ContinuousBatcher([engine.slots()], name="gemma", budget_tokens=8_192))


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0, seed=1), Sampling(repetition_penalty=1.2, top_logprobs=2)])
def test_every_answer_under_a_schema_is_valid(decoder: Decoder, sampling: Sampling) -> None:
    asks = [
        GenerateRequest(prompt="A person, as JSON:", max_tokens=96, sampling=sampling, grammar=Grammar("json", schema, "response_format"))
        for schema in SCHEMAS
    ]
    free = GenerateRequest(prompt="Once upon a time", max_tokens=8)
    answers = decoder.answer([*asks, free])
    for schema, answer in zip(SCHEMAS, answers, strict=False):
        assert not isinstance(answer, FailedRow), answer.code
        jsonschema.validate(json.loads(answer.text), schema)
        assert answer.finish_reason == "stop"
        assert b"".join(map(decoder.engine.vocabulary.token_bytes, answer.ids)).decode() == answer.text  # type: ignore[union-attr]
    alone = decoder.answer([free])
    assert answers[-1] == alone[0], "a mask changes nothing beside it"


@pytest.mark.parametrize("grammar", [Grammar("choice", ["sport", "politics"], "a"), Grammar("regex", "[0-9]{4}-[0-9]{2}", "a")])
def test_so_is_a_choice_and_one_under_a_pattern(decoder: Decoder, grammar: Grammar) -> None:
    [answer] = decoder.answer([GenerateRequest(prompt="The game was", max_tokens=20, grammar=grammar)])
    assert not isinstance(answer, FailedRow), answer.code
    assert meets(grammar, answer.text)


def test_logprobs_spell_the_answer(decoder: Decoder) -> None:
    [answer] = decoder.answer([GenerateRequest(prompt="Paris is the capital of", max_tokens=6, sampling=Sampling(top_logprobs=3))])
    assert not isinstance(answer, FailedRow)
    assert answer.logprobs is not None
    vocabulary = decoder.engine.vocabulary
    assert vocabulary is not None
    assert b"".join(vocabulary.token_bytes(one.token) for one in answer.logprobs).decode() == answer.text
    assert all(one.top[0][1] >= one.logprob for one in answer.logprobs)
