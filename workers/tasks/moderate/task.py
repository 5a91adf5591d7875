"""Moderation: its body, and which models can do it. Light.

No model that is shipped does: a text is near the words of a category for many reasons. So it takes a head that was trained on examples, or
an operator's classifier, whose labels are some of OpenAI's categories; a label of another name is of a text that is harmless.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from workers.tasks.body import LongBody
from workers.tasks.reading import text_fault
from workers.tasks.task import LONG_TEXT, Columns, Group, Names, Task

if TYPE_CHECKING:
    from workers.models.card import ModelCard

MAX_INPUTS: Final = 2_048
CATEGORIES: Final = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)
UNFIT: Final = "no_moderation_model"


Texts = Annotated[
    str | list[str | dict[str, Any]] | None,
    Meta(description="The text; or up to 2,048 of them, with a result each; or parts of one, each with `type` `text` and `text`."),
]


class ModerateBody(LongBody, forbid_unknown_fields=True, kw_only=True):
    input: Texts = None  # type: ignore[assignment]  # it takes several, and parts

    def texts(self) -> Sequence[str] | str:
        """Those that get a result each, or a failure code."""
        if not isinstance(self.input, list):
            return text_fault(self.input) or [self.input or ""]
        if not 0 < len(self.input) <= MAX_INPUTS:
            return f"invalid_field:input:text, or a list of 1 to {MAX_INPUTS:,} texts"
        texts, parts = [one for one in self.input if isinstance(one, str)], []
        for place, part in enumerate(self.input):
            if isinstance(part, str):
                continue
            if part.get("type") != "text" or texts:
                return f'unsupported_field:input[{place}].type:"text"|since texts alone are judged, and not beside parts of one'
            if not isinstance(text := part.get("text"), str):
                return f"invalid_field:input[{place}].text:text"
            parts.append(text)
        texts = texts or ["\n".join(parts)]
        faults = (text_fault(text, f"input[{place}]") for place, text in enumerate(texts))
        return next((code for code in faults if code is not None), texts)


class ModerateAsk(msgspec.Struct):
    model: str | None
    texts: Sequence[str]
    body: ModerateBody


class _Result(msgspec.Struct):
    flagged: bool
    category_scores: dict[str, float]


class _Answer(msgspec.Struct):
    results: list[_Result]
    truncated: bool = False
    chunks: int = 1


class Moderate(Task[ModerateBody]):
    name = "moderate"
    endpoints = ("/v1/moderations",)
    body = ModerateBody
    laid = ("model", "input", "on_long", "pool", "stride")
    names_stored = True
    columns: ClassVar[Columns] = {"flagged": "flag", "scores": "scores", **LONG_TEXT}

    @property
    def models(self) -> str:
        return "classify"

    def card_fault(self, card: "ModelCard", endpoint: str) -> str | None:
        return super().card_fault(card, endpoint) or (None if moderates(card.labels) else UNFIT)

    def head_fault(self, labels: Sequence[str]) -> str | None:
        return None if moderates(labels) else UNFIT

    def ask(self, body: ModerateBody, defaults: ModerateBody, endpoint: str) -> ModerateAsk | str:
        texts = body.texts()
        return texts if isinstance(texts, str) else ModerateAsk(body.model, texts, body)

    def place(self, ask: ModerateAsk, names: Names) -> Group | str:
        group = names.group(ask.model)
        if isinstance(group, str):
            return group
        if group.head is not None:
            return self.head_fault(group.head.card["labels"]) or group
        return UNFIT if group.card is None else self.card_fault(group.card, self.endpoints[0]) or group

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        return {
            "flagged": any(result.flagged for result in read.results),
            "scores": read.results[0].category_scores,
            **({"results": msgspec.to_builtins(read.results)} if len(read.results) > 1 else {}),
            **({"truncated": True} if read.truncated else {}),
            **({"chunks": read.chunks} if read.chunks > 1 else {}),
        }


def moderates(labels: Sequence[str]) -> bool:
    return not set(CATEGORIES).isdisjoint(labels)


TASK: Final = Moderate()
