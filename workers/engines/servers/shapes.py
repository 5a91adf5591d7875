"""What a server is asked, and what its answers say, in the shapes of OpenAI's API. Pure.

An answer that has not the shape, or whose numbers cannot be, is the server's fault (Trouble "nonsense"): nothing of it is kept.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from workers.arrays import Vectors
from workers.batches.outcomes import FailedRow
from workers.engines.contract.decoding import DecoderRow, Ending, Generation
from workers.engines.contract.generation import GenerateRequest
from workers.engines.servers.wire import Trouble
from workers.grammars.grammar import Grammar

COMPLETIONS: Final = "/completions"
CHAT: Final = "/chat/completions"
MOST_NAME_CHARS: Final = 200
NOTHING_MORE: Final[Mapping[str, object]] = {}
ENDINGS: Final[dict[str, Ending]] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
TOO_LONG: Final = re.compile(
    rb"context_length_exceeded|context (length|window|size)|maximum .{0,40}length|too (long|many tokens)", re.IGNORECASE
)

# The codes and types of errors that OpenAI's API and servers like it name (vLLM, SGLang, llama.cpp, TGI, TEI), the particular ones first.
ERROR_KINDS: Final = frozenset(
    [
        *("invalid_value", "invalid_type", "invalid_prompt", "missing_required_parameter", "unknown_parameter", "unsupported_parameter"),
        *("unsupported_value", "string_above_max_length", "string_below_min_length", "empty_string", "array_above_max_length"),
        *("array_below_min_length", "empty_array", "integer_above_max_value", "integer_below_min_value", "decimal_above_max_value"),
        *("decimal_below_min_value", "invalid_json_schema", "content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"),
        *("model_not_found", "invalid_model", "rate_limit_exceeded", "insufficient_quota", "quota_exceeded", "billing_hard_limit_reached"),
        *("tokens", "requests", "invalid_request_error", "not_found_error", "rate_limit_error", "request_too_large", "overloaded_error"),
        *("not_supported_error", "unavailable_error", "BadRequestError", "NotFoundError", "UnprocessableEntityError"),
        *("PayloadTooLargeError", "ValidationError", "BadRequest", "validation", "Validation", "template_error", "tool_error"),
        *("overloaded", "Overloaded", "Tokenizer", "Empty"),
    ]
)

encode: Final = msgspec.json.Encoder().encode
Count = Annotated[int, Meta(ge=0, lt=1 << 24)]  # of 128 answers together in 32 bits, as they are stored
Text = Annotated[str, Meta(max_length=64 << 20)]
ShapeT = TypeVar("ShapeT", bound=msgspec.Struct)


class _Usage(msgspec.Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count | None = None
    prompt_tokens_details: dict[str, Any] | None = None


class _Said(msgspec.Struct):
    content: Text | None = None


class _Choice(msgspec.Struct):
    finish_reason: str
    message: _Said | None = None
    text: Text | None = None


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    model: str | None = None
    system_fingerprint: str | None = None
    usage: _Usage | None = None


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    model: str | None = None
    usage: _Usage | None = None


class _Class(msgspec.Struct):
    index: int
    probs: list[float]


class _Classes(msgspec.Struct):
    data: list[_Class]
    model: str | None = None
    usage: _Usage | None = None


def completion_asked(row: DecoderRow, model: str, more: Mapping[str, object] = NOTHING_MORE) -> tuple[str, bytes]:
    """Path and body. Fields at which a row asks for nothing special are left out: not every server knows all. ``more``: what this one
    does."""
    request = row.asked or GenerateRequest()
    sampling = row.sampling
    fields: dict[str, object] = {"model": model, "max_tokens": row.max_tokens, "temperature": sampling.temperature, "stream": False, **more}
    special = {
        "top_p": (sampling.top_p, 1.0),
        "top_k": (sampling.top_k, 0),
        "min_p": (sampling.min_p, 0.0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "seed": (sampling.seed, None),
    }
    fields |= {name: value for name, (value, nothing) in special.items() if value != nothing}
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    if request.grammar is not None:
        fields |= _form_asked(request.grammar)
    if row.stop:
        fields["stop"] = list(row.stop)
    if not request.messages:
        prompt = request.prompt if request.prompt is not None else [int(token) for token in request.ids]
        return COMPLETIONS, encode({**fields, "prompt": prompt})
    messages = [
        {"role": one.role, "content": one.content, **({"name": one.name} if one.name is not None else {})} for one in request.messages
    ]
    return CHAT, encode({**fields, "messages": messages})


def _form_asked(grammar: Grammar) -> dict[str, object]:
    """What the answer must look like: a JSON schema as OpenAI's API has it, anything else as vLLM's."""
    if grammar.kind != "json":
        return {"structured_outputs": {grammar.kind: grammar.source}}
    schema = json.loads(grammar.source) if isinstance(grammar.source, str) else grammar.source
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def completion_said(reply: bytes) -> tuple[Generation | FailedRow, str, float]:
    """The answer, who gave it (the server's own words for its model and build), and its tokens."""
    read = _decoded(reply, _Completion)
    choice = read.choices[0]
    text = choice.message.content if choice.message is not None else choice.text
    usage = read.usage or _Usage()
    if choice.finish_reason == "content_filter":
        return FailedRow("content_filtered"), _source(read.model, read.system_fingerprint), 1.0
    if choice.finish_reason not in ENDINGS or (choice.message is None and text is None):
        raise Trouble("nonsense", 200)
    tokens = len((text or "").split()) if usage.completion_tokens is None else usage.completion_tokens
    cached = (usage.prompt_tokens_details or {}).get("cached_tokens")
    said = Generation(
        text or "",
        range(tokens),
        ENDINGS[choice.finish_reason],
        cached_tokens=min(cached, usage.prompt_tokens) if isinstance(cached, int) and cached > 0 else 0,
        prompt_tokens=usage.prompt_tokens,
    )
    return said, _source(read.model, read.system_fingerprint), float(max(1, tokens))


def embeddings_asked(texts: Sequence[str], model: str) -> bytes:
    return encode({"model": model, "input": texts, "encoding_format": "float"})


def embeddings_said(reply: bytes, texts: int, dimensions: int | None) -> tuple[Vectors, str]:
    """[texts, d] of unit length, in the order in which they were asked for. ``dimensions`` None: whatever they have."""
    read = _decoded(reply, _Vectors)
    found = _in_order([(one.index, one.embedding) for one in read.data], texts, dimensions)
    lengths = np.sqrt(np.square(found, dtype=np.float64).sum(axis=1, keepdims=True))
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise Trouble("nonsense", 200)
    unit: Vectors = (found / lengths).astype(np.float32)
    return unit, _source(read.model, None)


def classes_asked(texts: Sequence[str], model: str) -> bytes:
    return encode({"model": model, "input": texts})


def classes_said(reply: bytes, texts: int, labels: int) -> tuple[Vectors, str]:
    """[texts, labels]: the logarithms of the probabilities, which as logits give them again."""
    read = _decoded(reply, _Classes)
    found = _in_order([(one.index, one.probs) for one in read.data], texts, labels)
    if not (found >= 0).all() or not np.allclose(found.sum(axis=1), 1.0, atol=0.02):
        raise Trouble("nonsense", 200)
    logits: Vectors = np.log(np.maximum(found, 1e-30)).astype(np.float32)
    return logits, _source(read.model, None)


def refusal(status: int, reply: bytes = b"") -> FailedRow:
    """Of what a server refused. Its words are looked at and not kept: they may quote the row; the public name of a kind of error is."""
    if TOO_LONG.search(reply[:4_096]):
        return FailedRow("prompt_too_long")
    kind = _kind_of(reply)
    return FailedRow(f"refused_by_server::{status}{f'|{kind}' if kind else ''}")


def _kind_of(reply: bytes) -> str | None:
    try:
        read = msgspec.json.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    said = [one for one in (read.get("error"), read) if isinstance(one, dict)] if isinstance(read, dict) else []
    names = (one.get(field) for field in ("code", "type", "error_type") for one in said)
    return next((name for name in names if isinstance(name, str) and name in ERROR_KINDS), None)


def _in_order(rows: Sequence[tuple[int, list[float]]], count: int, width: int | None) -> Vectors:
    places = dict(rows)
    widths = {len(numbers) for numbers in places.values()}
    if (
        len(rows) != count
        or set(places) != set(range(count))
        or len(widths) != 1
        or 0 in widths
        or (width is not None and widths != {width})
    ):
        raise Trouble("nonsense", 200)
    found: Vectors = np.array([places[index] for index in range(count)], np.float64)
    return found


def _decoded(reply: bytes, shape: type[ShapeT]) -> ShapeT:
    try:
        return msgspec.json.decode(reply, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Trouble("nonsense", 200) from None


def _source(model: str | None, fingerprint: str | None) -> str:
    """`MODEL+FINGERPRINT`, of what a server says of itself: bounded, and of characters that a version may have."""
    parts = [re.sub(r"[^\w./:@-]", "_", part, flags=re.ASCII)[:MOST_NAME_CHARS] for part in (model, fingerprint) if part]
    return "+".join(parts)
