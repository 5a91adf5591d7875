"""What the endpoints of a generation have in common: how the next token is drawn, what the answer must look like, where it ends. Light."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta

from workers.engines.contract.generation import DEFAULT_OUTPUT_TOKENS, GenerateRequest, Sampling
from workers.tasks.body import Body
from workers.tasks.generate import forms

MAX_OUTPUT_TOKENS: Final = 32_768  # above every context length in the registry: catches slips, the engine knows its own limit
MAX_ANSWERS: Final = 128
MAX_LOGPROBS: Final = 20
MAX_TOLD: Final = 1_000_000  # logprobs of all answers of a row: some 100 MB of JSON
LEAST_TEMPERATURE: Final = 1e-6  # what is below draws the likeliest token, as 0 does, and is none in fp32

Temperature = Annotated[float, Meta(ge=0.0, le=2.0)]
TopP = Annotated[float, Meta(gt=0.0, le=1.0)]
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Repetition = Annotated[float, Meta(gt=0.0, le=10.0)]
Penalty = Annotated[float, Meta(ge=-2.0, le=2.0)]
Bias = Annotated[float, Meta(ge=-100.0, le=100.0)]
OutputTokens = Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
Answers = Annotated[int, Meta(ge=1, le=MAX_ANSWERS)]
Logprobs = Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)]

ValueT = TypeVar("ValueT")


class GenerateBody(Body, forbid_unknown_fields=True, kw_only=True):
    temperature: Annotated[Temperature | None, Meta(description="0, as by default, always takes the likeliest token.")] = None
    top_p: Annotated[TopP | None, Meta(description="Draw from the likeliest tokens that make up this probability together.")] = None
    top_k: Annotated[TopK | None, Meta(description="Draw from so many of the likeliest tokens; 0 or -1, as by default, from all.")] = None
    min_p: Annotated[Share | None, Meta(description="Draw from no token that is less than so many times as likely as the likeliest.")] = (
        None
    )
    presence_penalty: Annotated[Penalty | None, Meta(description="What a token's logit loses once the answer has it.")] = None
    frequency_penalty: Annotated[Penalty | None, Meta(description="What a token's logit loses for each time the answer has it.")] = None
    repetition_penalty: Annotated[
        Repetition | None, Meta(description="Above 1 it makes tokens of the prompt and the answer less likely; 1 by default.")
    ] = None
    logit_bias: Annotated[
        dict[str, Bias] | None,
        Meta(description="By the number of a token in the model's vocabulary, what its logit gains: -100 to 100."),
    ] = None
    seed: Annotated[
        Seed | None,
        Meta(description="Makes drawing repeatable, with the same engine and number format; of `n` answers each has its own."),
    ] = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Meta(max_length=4)] | None, Meta(description="Texts at which the answer ends, up to four.")
    ] = None
    guided_json: Annotated[dict[str, Any] | str | None, Meta(description="A JSON schema, as vLLM names it: as with `response_format`.")] = (
        None
    )
    guided_regex: Annotated[
        str | None, Meta(description="A regular expression that the whole answer matches: linear ones, without looking around or back.")
    ] = None
    guided_choice: Annotated[
        list[str] | None, Meta(description="Texts of which the answer is one; up to 5,000, of 65,536 characters together.")
    ] = None
    guided_grammar: Annotated[str | None, Meta(description="A grammar that the answer follows, in Lark's or llama.cpp's notation.")] = None
    structured_outputs: Annotated[
        dict[str, Any] | None, Meta(description="The same as vLLM names it now: an object with `json`, `regex`, `choice` or `grammar`.")
    ] = None
    user: Annotated[object, Meta(description="Taken, whatever it is, and left aside.")] = None


class ChoicesBody(GenerateBody, forbid_unknown_fields=True, kw_only=True):
    """Of the endpoints whose answers are choices."""

    max_tokens: Annotated[
        OutputTokens | None,
        Meta(description="The longest answer; 256 by default, and never more than the model has room for behind the prompt."),
    ] = None
    max_completion_tokens: Annotated[
        OutputTokens | None, Meta(description="The newer name of `max_tokens`; where both are given, this one counts.")
    ] = None
    n: Annotated[Answers | None, Meta(description="So many answers, up to 128, each drawn by itself; 1 by default.")] = None
    response_format: Annotated[
        dict[str, Any] | None,
        Meta(description='`{"type": "json_schema", "json_schema": {"schema": …}}`, `{"type": "json_object"}`, or `{"type": "text"}`.'),
    ] = None

    def limit(self, defaults: "ChoicesBody") -> int:
        limits = (self.max_completion_tokens, self.max_tokens, defaults.max_completion_tokens, defaults.max_tokens)
        return next((limit for limit in limits if limit is not None), DEFAULT_OUTPUT_TOKENS)


@dataclass(frozen=True, slots=True)
class GenerateAsk:
    """What a row asks for: ``n`` answers to each of its prompts. ``body``: with the job's defaults laid under it. ``says_form``: whether it
    is the row itself that says what the answer must look like."""

    model: str | None
    requests: Sequence[GenerateRequest]
    n: int
    body: GenerateBody
    says_form: bool = False

    def each(self, tried: int = 0) -> Iterator[GenerateRequest]:
        """One for each answer, prompt by prompt. Seeds of one prompt follow each other; the first is that of the row, and of a row that was
        ``tried`` before the one behind the last that it had."""
        first = tried * self.n
        for request in self.requests:
            seed = request.sampling.seed
            for more in range(first, first + self.n):
                sampling = request.sampling if seed is None else replace(request.sampling, seed=_wrapped(seed + more))
                yield replace(request, sampling=sampling) if more else request


def ask_of(
    body: GenerateBody,
    defaults: GenerateBody,
    prompts: Sequence[GenerateRequest],
    *,
    limit: int,
    top_logprobs: int | None = None,
    told_by: str = "top_logprobs",
    n: int = 1,
) -> GenerateAsk | str:
    """``prompts``: requests of which only that is known; the rest is filled in here. ``told_by``: what the endpoint calls the number of
    logprobs."""
    answers = len(prompts) * n
    if answers > MAX_ANSWERS:
        return f"invalid_field:n:so few that all prompts of the row together get {MAX_ANSWERS} answers at most"
    if top_logprobs is not None and answers * limit * (1 + top_logprobs) > MAX_TOLD:
        return f"invalid_field:{told_by}:so few that those of all tokens of the row's answers are {MAX_TOLD:,} at most"
    own = forms.grammar_of(body)
    grammar = forms.grammar_of(defaults) if own is None else own
    if isinstance(grammar, str):
        return grammar
    sampling = sampling_of(body, top_logprobs)
    if isinstance(sampling, str):
        return sampling
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    for request in prompts:
        request.max_tokens, request.sampling, request.stop, request.grammar = limit, sampling, stop, grammar or None
    return GenerateAsk(body.model, prompts, n, body, own is not None)


def sampling_of(body: GenerateBody, top_logprobs: int | None) -> Sampling | str:
    biases = _biases(body.logit_bias or {})
    if biases is None:
        return "invalid_field:logit_bias:an object whose keys are numbers of tokens"
    temperature = body.temperature or 0.0
    return Sampling(
        temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
        top_k=max(0, body.top_k or 0),
        top_p=first(body.top_p, 1.0),
        min_p=body.min_p or 0.0,
        repetition_penalty=first(body.repetition_penalty, 1.0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=biases,
        seed=body.seed,
        top_logprobs=top_logprobs,
    )


def _wrapped(seed: int) -> int:
    """Into 64 bits."""
    return (seed + 2**63) % 2**64 - 2**63


def first(value: ValueT | None, otherwise: ValueT) -> ValueT:
    return otherwise if value is None else value


def _biases(given: Mapping[str, float]) -> dict[int, float] | None:
    if not all(token.isascii() and token.isdigit() and len(token) < 10 for token in given):
        return None
    return {int(token): bias for token, bias in given.items()}
