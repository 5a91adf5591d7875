"""`/v1/responses`, of text: an input and instructions in, a message out. Light."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta

from workers.engines.contract.generation import DEFAULT_OUTPUT_TOKENS, GenerateRequest, Message
from workers.tasks.generate.body import GenerateAsk, GenerateBody, Logprobs, OutputTokens, ask_of, first
from workers.tasks.generate.chat import messages_fault
from workers.tasks.generate.told import Told
from workers.tasks.reading import text_fault

ENDPOINT: Final = "/v1/responses"
LOGPROBS: Final = "message.output_text.logprobs"

Input = Annotated[
    str | list[Message] | None,
    Meta(description="The text, or messages, each with `role` and `content`: a text, or parts of it."),
]


class ResponseBody(GenerateBody, forbid_unknown_fields=True, kw_only=True):
    turns: ClassVar[str | None] = "input"
    plain: ClassVar[Mapping[str, str]] = {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "max_completion_tokens": "max_output_tokens",
    }

    input: Input = None  # type: ignore[assignment]  # of all generations this one has its messages here
    instructions: Annotated[str | None, Meta(description="What is said before the input, as the system.")] = None
    max_output_tokens: Annotated[
        OutputTokens | None,
        Meta(description="The longest answer; 256 by default, and never more than the model has room for behind the prompt."),
    ] = None
    top_logprobs: Annotated[Logprobs | None, Meta(description="How many of the likeliest tokens are told in each place; up to 20.")] = None
    include: Annotated[
        list[Literal["message.output_text.logprobs"]] | None, Meta(description="What the answer holds besides: its logprobs.")
    ] = None
    text: Annotated[
        dict[str, Any] | None,
        Meta(description='`{"format": …}`: `{"type": "json_schema", "schema": …}`, `{"type": "json_object"}`, or `{"type": "text"}`.'),
    ] = None
    metadata: Annotated[dict[str, str] | None, Meta(description="Given back with the answer.")] = None


def ask(body: ResponseBody, defaults: ResponseBody) -> GenerateAsk | str:
    given = body.input
    if isinstance(given, str) and (code := text_fault(given)) is not None:
        return code
    body.instructions, body.metadata = first(body.instructions, defaults.instructions), first(body.metadata, defaults.metadata)
    body.max_output_tokens = first(body.max_output_tokens, defaults.max_output_tokens)
    turns = [Message(role="user", content=given)] if isinstance(given, str) else list(given or ())
    if (code := messages_fault(turns, "input")) is not None:
        return code
    if body.instructions:
        turns = [Message(role="system", content=body.instructions), *turns]
    top = first(body.top_logprobs, defaults.top_logprobs)
    if top is None and LOGPROBS in (first(body.include, defaults.include) or ()):
        top = 0
    limit = first(body.max_output_tokens, DEFAULT_OUTPUT_TOKENS)
    asked = ask_of(body, defaults, [GenerateRequest(messages=turns)], limit=limit, top_logprobs=top)
    if isinstance(asked, GenerateAsk) and not asked.says_form:  # it is the job's that was laid under
        body.text = first(defaults.text, body.text)
    return asked


def answer(told: Told) -> dict[str, Any]:
    """With what the stock client's type needs, and the fields of the body that it gives back."""
    [[said]] = told.said
    body = told.ask.body
    assert isinstance(body, ResponseBody)
    cut = said.finish_reason == "length"
    part: dict[str, Any] = {"type": "output_text", "text": told.text_of(said), "annotations": []}
    if said.logprobs is not None:
        part["logprobs"] = told.logprobs_of(said)
    message = {
        "id": told.id("msg"),
        "type": "message",
        "role": "assistant",
        "status": "incomplete" if cut else "completed",
        "content": [part],
    }
    facts = told.facts()
    return {
        "id": told.id("resp"),
        "object": "response",
        "created_at": facts.pop("created"),
        "status": "incomplete" if cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        **facts,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "output": [message],
        "parallel_tool_calls": False,
        "temperature": body.temperature or 0.0,
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": first(body.top_p, 1.0),
        "truncation": "disabled",
        "usage": _usage(told.usage()),
    }


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
