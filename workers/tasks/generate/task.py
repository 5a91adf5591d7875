"""Generation: its endpoints, each with its own body and its own answer. Light."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from workers.grammars.compiling import fault
from workers.grammars.grammar import Grammar
from workers.tasks.generate import chat, completions, forms, responses
from workers.tasks.generate.body import GenerateAsk, GenerateBody, sampling_of
from workers.tasks.generate.told import Told
from workers.tasks.task import Columns, Group, Names, Task
from workers.tasks.writers import ruled

if TYPE_CHECKING:
    from workers.models.card import ModelCard

BODIES: Final[Mapping[str, type[GenerateBody]]] = {
    chat.ENDPOINT: chat.ChatBody,
    completions.ENDPOINT: completions.CompletionBody,
    responses.ENDPOINT: responses.ResponseBody,
}
_ASKS: Final[Mapping[str, Callable[[Any, Any], GenerateAsk | str]]] = {
    chat.ENDPOINT: chat.ask,
    completions.ENDPOINT: completions.ask,
    responses.ENDPOINT: responses.ask,
}
ANSWERS: Final[Mapping[str, Callable[[Told], dict[str, Any]]]] = {
    chat.ENDPOINT: chat.answer,
    completions.ENDPOINT: completions.answer,
    responses.ENDPOINT: responses.answer,
}


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    output: list[_Message] = []
    status: str = ""
    usage: _Usage = msgspec.field(default_factory=_Usage)
    tries: int | None = None
    rule: str | None = None

    def texts(self) -> list[str]:
        messages = [choice.message or _Message(choice.text) for choice in self.choices] or self.output
        return [one if isinstance(one := message.content, str) else "".join(part.text for part in one or ()) for message in messages]


def unsupported(body: GenerateBody) -> str | None:
    """The failure code of what OpenVINO's pipeline, rules and templates cannot be asked for, by its public name."""
    if isinstance(asked := forms.grammar_of(body), Grammar):
        return f"unsupported_field:{asked.field}"
    # A chat's `top_logprobs` ask for nothing by themselves.
    tells = ("logprobs",) if hasattr(body, "logprobs") else ("top_logprobs", "include")
    given = {name: getattr(body, name, None) for name in ("logit_bias", *tells)}
    named = next((name for name, one in given.items() if one not in (None, {}, []) and one is not False), None)
    return None if named is None else f"unsupported_field:{named}"


class Generate(Task[GenerateBody]):
    name = "generate"
    endpoints = tuple(BODIES)
    body = GenerateBody
    streams = True
    names_stored = True
    writers = ("rules", "templates")
    laid = (
        *("model", "input", "seed", "stop", "temperature", "top_p", "top_k", "min_p"),
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"),
    )
    columns: ClassVar[Columns] = {"text": "text", "finish_reason": "text", "input_tokens": "integer", "output_tokens": "integer"}

    def card_fault(self, card: "ModelCard", endpoint: str) -> str | None:
        if card.reads_no_messages and endpoint != completions.ENDPOINT:
            return "no_chat_template"
        return super().card_fault(card, endpoint)

    def pair_fault(self, card: "ModelCard", body: GenerateBody) -> str | None:
        return unsupported(body) if card.openvino else None

    def writer_fault(self, body: GenerateBody) -> str | None:
        return unsupported(body)

    def place(self, ask: GenerateAsk, names: Names) -> Group | str:
        group = super().place(ask, names)
        if isinstance(group, str) or group.writer is None:
            return group
        return self.writer_fault(ask.body) or ("unsupported_field:response_format" if ask.requests[0].grammar is not None else group)

    def body_of(self, endpoint: str) -> type[GenerateBody]:
        return BODIES[endpoint]

    def defaults_fault(self, defaults: GenerateBody) -> str | None:
        """What no answer can look like is refused before any row runs."""
        if isinstance(sampling := sampling_of(defaults, None), str):
            return sampling
        asked = forms.grammar_of(defaults)
        return fault(asked) if isinstance(asked, Grammar) else asked or None

    def ask(self, body: GenerateBody, defaults: GenerateBody, endpoint: str) -> GenerateAsk | str:
        return _ASKS[endpoint](body, defaults)

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        texts, usage = read.texts(), read.usage
        cut = {"incomplete": "length"}.get(read.status, "stop")
        return {
            "text": texts[0] if texts else "",
            **({"texts": texts} if len(texts) > 1 else {}),  # a table has one text a row
            "finish_reason": read.choices[0].finish_reason if read.choices else cut,
            "input_tokens": usage.prompt_tokens or usage.input_tokens,
            "output_tokens": usage.completion_tokens or usage.output_tokens,
            **({} if read.tries is None else {"tries": read.tries}),
            **ruled(read.rule),
        }


TASK: Final = Generate()
