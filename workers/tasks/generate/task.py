"""Generation: its body, and how it is read. Light."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from workers.engines.contract.generation import DEFAULT_OUTPUT_TOKENS, GenerateRequest, Message, Sampling
from workers.tasks.body import Body
from workers.tasks.reading import is_blank, text_fault
from workers.tasks.task import Columns, Task

MAX_OUTPUT_TOKENS: Final = 32_768  # above every context length in the registry: catches slips, the engine knows its own limit
COMPLETIONS: Final = "/v1/completions"
INSTRUCTIONS: Final = ("system", "developer")

Temperature = Annotated[float, Meta(ge=0.0, le=2.0)]
TopP = Annotated[float, Meta(gt=0.0, le=1.0)]
OutputTokens = Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]


class GenerateBody(Body, forbid_unknown_fields=True, kw_only=True):
    """``input`` is the text of a plain row: it follows the default ``messages`` as the user's turn."""

    messages: Annotated[
        list[Message] | None,
        Meta(description="Each with `role` (`system`, `developer`, `user`, `assistant`), `content` and maybe `name`. Chat only."),
    ] = None
    prompt: Annotated[
        str | Annotated[list[str], Meta(min_length=1, max_length=1)] | None,
        Meta(description="The text to go on with, or a list of that one. `/v1/completions` only."),
    ] = None
    max_tokens: Annotated[
        OutputTokens | None,
        Meta(description="The longest answer; 256 by default, and never more than the model has room for behind the prompt."),
    ] = None
    max_completion_tokens: Annotated[
        OutputTokens | None, Meta(description="The newer name of `max_tokens`; where both are given, this one counts.")
    ] = None
    temperature: Annotated[Temperature | None, Meta(description="0, as by default, always takes the likeliest token.")] = None
    top_p: Annotated[TopP | None, Meta(description="Draw from the likeliest tokens that make up this probability together.")] = None
    seed: Annotated[Seed | None, Meta(description="Makes sampling repeatable on the same machine.")] = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Meta(max_length=4)] | None, Meta(description="Texts at which the answer ends, up to four.")
    ] = None
    n: Annotated[Literal[1] | None, Meta(description="One answer a row.")] = None
    user: Annotated[object, Meta(description="Taken, whatever it is, and left aside.")] = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage = msgspec.field(default_factory=_Usage)


class Generate(Task[GenerateBody]):
    name = "generate"
    endpoints = ("/v1/chat/completions", COMPLETIONS)
    body = GenerateBody
    streams = True
    laid = ("model", "input", "seed", "stop", "temperature", "top_p")
    columns: ClassVar[Columns] = {"text": "text", "finish_reason": "text", "input_tokens": "integer", "output_tokens": "integer"}

    def fault(self, body: GenerateBody, endpoint: str, max_labels: int) -> str | None:
        if endpoint == COMPLETIONS:
            return None if body.messages is None else "unknown_field:messages:prompt, input"
        return None if body.prompt is None else "unknown_field:prompt:messages, input"

    def ask(self, body: GenerateBody, defaults: GenerateBody, endpoint: str) -> GenerateRequest | str:
        plain = body.input
        if plain is not None and (code := text_fault(plain)) is not None:
            return code
        messages: Sequence[Message] = ()
        prompt: str | None = None
        if endpoint == COMPLETIONS:
            given = body.prompt if body.prompt is not None else plain if plain is not None else defaults.prompt
            prompt = given[0] if isinstance(given, list) else given
            code = "missing_input:prompt" if prompt is None else "empty_input:prompt" if _is_empty(prompt) else None
            code = code or ("nul_character:prompt" if "\x00" in (prompt or "") else None)
        else:
            messages = _laid_under(body.messages, defaults.messages or ())
            if plain is not None:
                messages = [*messages, Message(role="user", content=plain)]
            code = _messages_fault(messages)
        if code is not None:
            return code
        limits = (body.max_completion_tokens, body.max_tokens, defaults.max_completion_tokens, defaults.max_tokens)
        return GenerateRequest(
            messages=messages,
            prompt=prompt,
            model=body.model,
            max_tokens=next((limit for limit in limits if limit is not None), DEFAULT_OUTPUT_TOKENS),
            sampling=Sampling(temperature=body.temperature or 0.0, top_p=1.0 if body.top_p is None else body.top_p, seed=body.seed),
            stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        )

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        choice = read.choices[0]
        text = choice.message.content if choice.message is not None else choice.text
        return {
            "text": text or "",
            "finish_reason": choice.finish_reason,
            "input_tokens": read.usage.prompt_tokens,
            "output_tokens": read.usage.completion_tokens,
        }


def _laid_under(own: Sequence[Message] | None, defaults: Sequence[Message]) -> Sequence[Message]:
    """A row's own messages in place of the defaults', whose instructions they follow where they bring none."""
    if own is None:
        return defaults
    alone = any(message.role in INSTRUCTIONS for message in own)
    return own if alone or not own else [*(message for message in defaults if message.role in INSTRUCTIONS), *own]


def _is_empty(prompt: str) -> bool:
    """White space may well be gone on with."""
    return not prompt or (is_blank(prompt) and not prompt.isspace())


def _messages_fault(messages: Sequence[Message]) -> str | None:
    if not messages:
        return "missing_input:messages"
    if any("\x00" in message.content for message in messages):
        return "nul_character:messages"
    if all(is_blank(message.content) for message in messages):
        return "empty_input:messages"
    return None


TASK: Final = Generate()
