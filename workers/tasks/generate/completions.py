"""`/v1/completions`: texts in, what they go on with out. Light."""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from msgspec import Meta

from workers.engines.contract.generation import GenerateRequest
from workers.tasks.body import Token
from workers.tasks.generate.body import ChoicesBody, GenerateAsk, Logprobs, ask_of, first
from workers.tasks.generate.told import LEAST_LOGPROB, Told
from workers.tasks.reading import is_blank, text_fault

if TYPE_CHECKING:
    from workers.engines.contract.decoding import Generation

ENDPOINT: Final = "/v1/completions"
MAX_PROMPTS: Final = 128

Prompt = str | list[int]


class CompletionBody(ChoicesBody, forbid_unknown_fields=True, kw_only=True):
    prompt: Annotated[
        str | list[str | Token | list[Token]] | None,
        Meta(
            description="The text to go on with, or a list of up to 128 of them; or its tokens, or a list of those, as the model's own"
            " tokenizer numbers them, with what it puts before a text."
        ),
    ] = None
    best_of: Annotated[int | None, Meta(description="Taken where it is `n`: every answer that is made is given.")] = None
    logprobs: Annotated[
        bool | Logprobs | None, Meta(description="How many of the likeliest tokens are told with their logprobs in each place; up to 20.")
    ] = None


def ask(body: CompletionBody, defaults: CompletionBody) -> GenerateAsk | str:
    if body.input is not None and (code := text_fault(body.input)) is not None:
        return code
    prompts = _prompts(first(body.prompt, first(body.input, defaults.prompt)))
    if isinstance(prompts, str):
        return prompts
    n = first(body.n, defaults.n) or 1
    if first(body.best_of, defaults.best_of) not in (None, n):
        return f"unsupported_field:best_of:{n}"
    requests = [GenerateRequest(prompt=one) if isinstance(one, str) else GenerateRequest(ids=cast(Any, one)) for one in prompts]
    top = first(body.logprobs, defaults.logprobs)
    told = None if top is None or top is False else int(top)
    return ask_of(body, defaults, requests, limit=body.limit(defaults), top_logprobs=told, told_by="logprobs", n=n)


def _prompts(given: str | Sequence[str | int | list[int]] | None) -> list[Prompt] | str:
    """Each by itself, or a failure code."""
    if given is None:
        return "missing_input:prompt"
    if isinstance(given, str):
        prompts: list[Prompt] = [given]
    elif all(isinstance(one, int) for one in given):
        prompts = [cast(list[int], list(given))]
    elif any(isinstance(one, int) for one in given):
        return "invalid_field:prompt:texts, or tokens, and not both in one list"
    else:
        prompts = cast(list[Prompt], list(given))
    if len(prompts) > MAX_PROMPTS:
        return f"invalid_field:prompt:a list of at most {MAX_PROMPTS} entries"
    if any(_is_empty(prompt) for prompt in prompts):
        return "empty_input:prompt"
    return "nul_character:prompt" if any(isinstance(prompt, str) and "\x00" in prompt for prompt in prompts) else prompts


def _is_empty(prompt: Prompt) -> bool:
    """White space may well be gone on with."""
    return not prompt or (isinstance(prompt, str) and is_blank(prompt) and not prompt.isspace())


def answer(told: Told) -> dict[str, Any]:
    choices = [
        # A continuation carries on in mid-sentence, where its leading space belongs to it.
        {"index": index, "text": one.text, "logprobs": _logprobs(told, one), "finish_reason": one.finish_reason}
        for index, one in enumerate(chain.from_iterable(told.said))
    ]
    return {"id": told.id("cmpl"), "object": "text_completion", **told.facts(), "choices": choices, "usage": told.usage()}


def _logprobs(told: Told, said: "Generation") -> dict[str, Any] | None:
    """As this endpoint has them: a list a kind, and where each token begins in the text."""
    if said.logprobs is None:
        return None
    tokens = [told.token(one.token) for one in said.logprobs]
    return {
        "tokens": tokens,
        "token_logprobs": [max(one.logprob, LEAST_LOGPROB) for one in said.logprobs],
        "top_logprobs": [{told.token(token): max(logprob, LEAST_LOGPROB) for token, logprob in one.top} for one in said.logprobs],
        "text_offset": list(accumulate(map(len, tokens[:-1]), initial=0)) if tokens else [],
    }
