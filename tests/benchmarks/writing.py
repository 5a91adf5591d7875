"""What is written: through the whole system against the same decoder bare, and answers that must look like something against free ones.

Rows end where the model ends them, or after a number of tokens of their own (geometric, 8 to 128). Bare is the worker's own runtime in this
process (lanes, continuous batching), with prompts in memory: no queue, no store, no sealing.
"""

import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import msgspec
import numpy as np

from api.client import Upload
from db.settings import load
from tests.benchmarks import decoding
from tests.benchmarks.mill import Mill, wait_ended
from tests.benchmarks.turns import Run
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import Generation
from workers.engines.contract.generation import GenerateRequest, Sampling
from workers.grammars.grammar import Grammar
from workers.inference.decoder import Decoder
from workers.inference.runtime import Runtime
from workers.settings import WorkerSettings

ENDPOINT: Final = "/v1/completions"
STRUCTURED_TOKENS: Final = 96
REPEATED_TOKENS: Final = 24
LIMIT_SECONDS: Final = 900.0
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 24}
# Nested, a list, choices, a pattern, numbers between bounds.
SCHEMAS: Final[Sequence[Mapping[str, Any]]] = (
    {
        "type": "object",
        "properties": {
            "product": {"type": "object", "properties": {"name": _NAME, "maker": _NAME}, "required": ["name", "maker"]},
            "in_stock": {"type": "boolean"},
        },
        "required": ["product", "in_stock"],
    },
    {"type": "object", "properties": {"tags": {"type": "array", "items": _NAME, "minItems": 1, "maxItems": 3}}, "required": ["tags"]},
    {
        "type": "object",
        "properties": {"mood": {"enum": ["angry", "calm", "happy"]}, "topic": {"enum": ["refund", "login", "delivery"]}},
        "required": ["mood", "topic"],
    },
    {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, "name": _NAME},
        "required": ["code", "name"],
    },
    {
        "type": "object",
        "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "share": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["stars", "share"],
    },
)


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    limit: int


def prompts(count: int, draw: int = 0) -> list[Prompt]:
    """``draw``: others for each number."""
    drawn = np.random.default_rng(9 + draw)
    return [Prompt(decoding.words(drawn, int(drawn.integers(*decoding.PROMPT_WORDS))), decoding.limit(drawn)) for _ in range(count)]


def measure_whole(mill: Mill, model: str, asked: Sequence[Prompt]) -> Run:
    """Upload → sealed → read. A row of the run is a token that was said."""
    return written(mill, model, asked)[0]


def written(mill: Mill, model: str, asked: Sequence[Prompt]) -> tuple[Run, list[str]]:
    """The same, and the texts, in the order of the prompts. Raises AssertionError where answers are missing."""
    lines = b"".join(
        msgspec.json.encode(
            {
                "custom_id": str(number),
                "method": "POST",
                "url": ENDPOINT,
                "body": {"model": model, "prompt": one.text, "max_tokens": one.limit},
            }
        )
        + b"\n"
        for number, one in enumerate(asked)
    )
    used, began = mill.cpu_seconds(), time.perf_counter()
    file = mill.client.upload(Upload(io.BytesIO(lines), "prompts.jsonl", "batch", {}, len(lines)))
    batch = wait_ended(mill.client, mill.client.create_batch(file.id, ENDPOINT), limit_seconds=LIMIT_SECONDS)
    lines_back = [json.loads(line) for line in (mill.client.lines(batch.output_file) if batch.output_file else ())]
    bodies = {int(line["custom_id"]): line["response"]["body"] for line in lines_back}
    texts = [bodies[number]["choices"][0]["text"] for number in sorted(bodies)]
    seconds = time.perf_counter() - began
    assert len(texts) == len(asked), f"{len(texts)} of {len(asked)} answers came back"
    spent = mill.cpu_since(used)
    said = sum(body["usage"]["completion_tokens"] for body in bodies.values())
    return Run(said, seconds, sum(spent.values()), {"cpu_by_part": spent}), texts


@contextmanager
def bare(model: str) -> Iterator[Decoder]:
    """As a worker loads it, under this process's settings."""
    runtime = Runtime(load(WorkerSettings))
    runtime.warm(model)
    try:
        yield runtime.decoder(model)
    finally:
        runtime.close()


def measure_bare(decoder: Decoder, requests: Sequence[GenerateRequest]) -> Run:
    """A row of the run is a token that was said. Requests are written anew: what they are answered leaves ids in them."""
    began, cpu = time.perf_counter(), time.process_time()
    answers = decoder.answer([replace(one) for one in requests])
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    said = [one for one in answers if isinstance(one, Generation)]
    return Run(sum(len(one.ids) for one in said), seconds, cpu_seconds, {"answers": len(said)})


def plain(asked: Sequence[Prompt]) -> list[GenerateRequest]:
    return [GenerateRequest(prompt=one.text, max_tokens=one.limit) for one in asked]


def structured(asked: Sequence[Prompt]) -> list[GenerateRequest]:
    """Each under one of the five schemas."""
    return [
        GenerateRequest(
            prompt=f"{one.text}\nAs JSON: ",
            max_tokens=STRUCTURED_TOKENS,
            grammar=Grammar("json", SCHEMAS[number % len(SCHEMAS)], "response_format"),
        )
        for number, one in enumerate(asked)
    ]


def free(decoder: Decoder, requests: Sequence[GenerateRequest]) -> list[GenerateRequest]:
    """The same prompts under no schema, each as long as its answer under one: a short answer pays for its prompt with few tokens."""
    answers = decoder.answer([replace(one) for one in requests])
    lengths = [len(one.ids) if isinstance(one, Generation) else STRUCTURED_TOKENS for one in answers]
    return [replace(one, grammar=None, max_tokens=length) for one, length in zip(requests, lengths, strict=True)]


@dataclass(slots=True)
class Valid:
    """Of answers under the five schemas: ``delivered``, of them ``valid`` by another library than the one that made them, and the others,
    by their failure."""

    delivered: int = 0
    valid: int = 0
    failed: dict[str, int] = field(default_factory=dict)


def validity(decoder: Decoder, count: int) -> Valid:
    found = Valid()
    for number, answer in enumerate(decoder.answer(structured(prompts(count)))):
        if isinstance(answer, FailedRow):
            found.failed[answer.code] = found.failed.get(answer.code, 0) + 1
            continue
        found.delivered += 1
        found.valid += _is_valid(answer.text, SCHEMAS[number % len(SCHEMAS)])
    return found


def repeated(decoder: Decoder, count: int) -> float:
    """The share of rows, every other one drawn with a seed, that are answered by the same text alone and among all the others."""
    samplings = (Sampling(), Sampling(temperature=0.8, top_p=0.95, seed=11))
    requests = [
        GenerateRequest(prompt=one.text, max_tokens=REPEATED_TOKENS, sampling=samplings[number % 2])
        for number, one in enumerate(prompts(count))
    ]
    together = decoder.answer([replace(one) for one in requests])
    alone = [decoder.answer([replace(one)])[0] for one in requests]
    return sum(_text(one) == _text(other) for one, other in zip(together, alone, strict=True)) / count


def _text(answer: Generation | FailedRow) -> str:
    return answer.code if isinstance(answer, FailedRow) else answer.text


def _is_valid(text: str, schema: Mapping[str, Any]) -> bool:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True
