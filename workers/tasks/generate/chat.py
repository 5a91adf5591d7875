"""`/v1/chat/completions`: messages in, the assistant's next one out. Light."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from msgspec import Meta

from workers.engines.contract.generation import GenerateRequest, Message
from workers.tasks.generate.body import ChoicesBody, GenerateAsk, Logprobs, ask_of, first
from workers.tasks.generate.told import Told
from workers.tasks.reading import is_blank, text_fault

ENDPOINT: Final = "/v1/chat/completions"
INSTRUCTIONS: Final = ("system", "developer")


class ChatBody(ChoicesBody, forbid_unknown_fields=True, kw_only=True):
    """``input`` is the text of a plain row: it follows the default ``messages`` as the user's turn."""

    messages: Annotated[
        list[Message] | None,
        Meta(description="Each with `role` (`system`, `developer`, `user`, `assistant`), `content` and maybe `name`."),
    ] = None
    logprobs: Annotated[bool | None, Meta(description="Whether each token of the answer is told with its logprob.")] = None
    top_logprobs: Annotated[
        Logprobs | None, Meta(description="With `logprobs`, how many of the likeliest tokens are told in each place; up to 20.")
    ] = None


def ask(body: ChatBody, defaults: ChatBody) -> GenerateAsk | str:
    if body.input is not None and (code := text_fault(body.input)) is not None:
        return code
    messages = laid_under(body.messages, defaults.messages or ())
    if body.input is not None:
        messages = [*messages, Message(role="user", content=body.input)]
    if (code := messages_fault(messages, "messages")) is not None:
        return code
    logprobs = first(body.logprobs, defaults.logprobs)
    top = first(body.top_logprobs, defaults.top_logprobs) or 0
    if top and not logprobs:
        return "invalid_field:top_logprobs:sent beside `logprobs`: true"
    return ask_of(
        body,
        defaults,
        [GenerateRequest(messages=messages)],
        limit=body.limit(defaults),
        top_logprobs=top if logprobs else None,
        n=first(body.n, defaults.n) or 1,
    )


def laid_under(own: Sequence[Message] | None, defaults: Sequence[Message]) -> Sequence[Message]:
    """A row's own messages in place of the defaults', whose instructions they follow where they bring none."""
    if own is None:
        return defaults
    alone = any(message.role in INSTRUCTIONS for message in own)
    return own if alone or not own else [*(message for message in defaults if message.role in INSTRUCTIONS), *own]


def messages_fault(messages: Sequence[Message], field: str) -> str | None:
    if not messages:
        return f"missing_input:{field}"
    if any("\x00" in message.content for message in messages):
        return f"nul_character:{field}"
    if all(is_blank(message.content) for message in messages):
        return f"empty_input:{field}"
    return None


def answer(told: Told) -> dict[str, Any]:
    [said] = told.said
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": told.text_of(one), "refusal": None},
            "logprobs": None if one.logprobs is None else {"content": told.logprobs_of(one), "refusal": None},
            "finish_reason": one.finish_reason,
        }
        for index, one in enumerate(said)
    ]
    return {"id": told.id("chatcmpl"), "object": "chat.completion", **told.facts(), "choices": choices, "usage": told.usage()}
