"""Classification: its body, how it is read, and where its rows go. Light."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from workers.models.folders import PREFIX as LOCAL_PREFIX
from workers.models.folders import local_model
from workers.models.servers import server_model
from workers.tasks.body import LongBody, Name
from workers.tasks.reading import MAX_LABEL_CHARS, check_labels, is_blank, text_fault
from workers.tasks.task import HEAD_PREFIX, LONG_TEXT, Columns, Group, Names, Task
from workers.tasks.writers import RULES_PREFIX, ruled

if TYPE_CHECKING:
    from workers.models.card import ModelCard

MAX_TEMPLATES: Final = 32  # each template is one more text to embed for every label
MAX_ROTATIONS: Final = 64  # each is one more prompt for every text
DECODER_FIELDS: Final = ("descriptions", "rotations", "length_normalised", "calibrated")
DESCRIBED: Final = "invalid_field:descriptions:an object whose keys are labels of the list"
LEAST_LABEL_TOKENS: Final = 2  # of a label in the list that a decoder reads: its own, and the end of its line

Description = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_CHARS)]


class ClassifyBody(LongBody, forbid_unknown_fields=True, kw_only=True):
    """``labels`` is one list object for all rows that take the job's: compare by identity first, and do not change it."""

    labels: Annotated[
        list[str] | None,
        Meta(description="At least two, each once, of at most 1,000 characters; at most `TEXTMILL_MAX_LABELS`. Not with a head."),
    ] = None
    label_set: Annotated[
        Name | None, Meta(description="The name of a stored set, or `NAME@2` for its second version, in place of `labels`.")
    ] = None
    templates: Annotated[
        list[str] | None, Meta(description="1 to 32 sentences with `{}` where the label goes, such as `news about {}`.")
    ] = None
    descriptions: Annotated[
        dict[str, Description] | None,
        Meta(
            description="To a decoder: by label, what is meant by it, in a sentence of at most 1,000 characters; some labels may have none."
        ),
    ] = None
    rotations: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_ROTATIONS)] | None,
        Meta(
            description="Of a decoder, which likes some places of a list better: in how many orders of the labels a text is asked about, a"
            " prompt each, whose answers are averaged; 1 by default, and as many as labels at most. A model without a chat template is"
            " shown a list only where this or `descriptions` is given."
        ),
    ] = None
    length_normalised: Annotated[
        bool | None,
        Meta(description="Of a decoder: whether a label's logprob is divided by its number of tokens; not so by default, and exact."),
    ] = None
    calibrated: Annotated[
        bool | None,
        Meta(
            description="Of a decoder: whether what each label gets behind texts that say nothing is taken off its logprob. By default so"
            " of a model without a chat template; else scores are the model's own."
        ),
    ] = None


class _Answer(msgspec.Struct):
    label: str
    scores: dict[str, float]
    truncated: bool = False
    chunks: int = 1
    all_unknown: bool = False
    rule: str | None = None


class Classify(Task[ClassifyBody]):
    name = "classify"
    endpoints = ("/v1/classifications",)
    body = ClassifyBody
    laid = ("model", "input", "templates", "rotations", "length_normalised", "calibrated", "on_long", "pool", "stride")
    names_stored = True
    writers = ("rules",)
    columns: ClassVar[Columns] = {"label": "text", "score": "number", "scores": "scores", **LONG_TEXT}

    def fault(self, body: ClassifyBody, endpoint: str, max_labels: int) -> str | None:
        if body.labels is not None:
            if body.label_set is not None:
                return "invalid_field:label_set"  # two answers to one question
            if (code := check_labels(body.labels, max_labels)) is not None:
                return code
            if not (body.descriptions or {}).keys() <= set(body.labels):
                return DESCRIBED
        if body.descriptions is not None and (code := next(filter(None, map(_description_fault, body.descriptions.values())), None)):
            return code
        return None if body.templates is None or _are_templates(body.templates) else "invalid_field:templates"

    def card_fault(self, card: "ModelCard", endpoint: str) -> str | None:
        if card.kind == "decoder" and card.server is not None:
            return "no_label_scores"
        return super().card_fault(card, endpoint)

    def pair_fault(self, card: "ModelCard", body: ClassifyBody) -> str | None:
        if card.kind == "decoder":
            if body.templates is not None:
                return "invalid_field:templates:left out with a decoder, which reads `descriptions`"
            too_many = len(body.labels or ()) * LEAST_LABEL_TOKENS >= card.max_tokens
            return "labels_too_long" if too_many else None
        for name in DECODER_FIELDS:
            if getattr(body, name) is not None:
                return f"invalid_field:{name}:left out, for it is asked of a decoder"
        return None

    def writer_fault(self, body: ClassifyBody) -> str | None:
        asked = ("templates", *DECODER_FIELDS, "on_long", "pool", "stride")
        named = next((name for name in asked if getattr(body, name) is not None), None)
        return None if named is None else f"invalid_field:{named}:left out, for rules look at columns and texts as they are"

    def ask(self, body: ClassifyBody, defaults: ClassifyBody, endpoint: str) -> ClassifyBody | str:
        if (code := text_fault(body.input)) is not None and not (body.model or "").startswith(
            RULES_PREFIX
        ):  # they may look at columns alone
            return code
        if body.model is not None and _brings_labels(body.model):
            if body.labels is not None or body.label_set is not None:  # it answers with the labels it was trained on
                return "invalid_field:labels"
        elif body.labels is None and body.label_set is None:
            body.labels, body.label_set = defaults.labels, defaults.label_set
            if body.descriptions and body.labels is not None and not body.descriptions.keys() <= set(body.labels):
                return DESCRIBED
            body.descriptions = body.descriptions or defaults.descriptions
            if body.labels is None and body.label_set is None:
                return "missing_labels"
        return body

    def place(self, ask: ClassifyBody, names: Names) -> Group | str:
        group = names.group(ask.model)
        if isinstance(group, str):
            return group
        if group.writer is not None:
            return self.writer_fault(ask) or group
        asked = ask.descriptions, ask.rotations, ask.length_normalised, ask.calibrated
        plain = asked == (None, None, None, None)  # as most rows are: not looked at twice
        if (
            group.card is not None
            and (not plain or group.card.kind == "decoder")
            and (code := self.pair_fault(group.card, ask)) is not None
        ):
            return code
        if group.head is not None or (group.card is not None and group.card.own_labels):
            return group
        if ask.label_set is not None:
            found = names.label_set(ask.label_set)
            if isinstance(found, str):
                return found
            ask.labels, ask.templates, ask.label_set = found.labels, ask.templates or found.templates, found.address
            ask.descriptions = ask.descriptions or found.descriptions
            if not (ask.descriptions or {}).keys() <= set(found.labels):
                return "invalid_field:descriptions:an object whose keys are labels of the set"
        return group if ask.labels is not None else "missing_labels"

    def decoder_cost(self, ask: ClassifyBody, chars: int) -> int:
        """It reads the list with each text, once in each order."""
        labels, described = ask.labels or (), (ask.descriptions or {}).values()
        return (sum(map(len, (*labels, *described))) + chars) * min(ask.rotations or 1, len(labels))

    def values(self, answer: bytes | msgspec.Raw) -> dict[str, object]:
        read = msgspec.json.decode(answer, type=_Answer)
        return {"label": read.label, "score": read.scores.get(read.label), "scores": read.scores, **extent_values(read), **ruled(read.rule)}


def extent_values(answer: Any) -> dict[str, object]:
    """Of a text longer than the model reads: that it was cut, or read in so many windows. Of one of which it knows no token, just that."""
    return {
        **({"truncated": True} if answer.truncated else {}),
        **({"chunks": answer.chunks} if answer.chunks > 1 else {}),
        **({"all_unknown": True} if answer.all_unknown else {}),
    }


def _brings_labels(model: str) -> bool:
    """Whether a model answers with labels of its own: a head, rules, or an operator's sequence classifier."""
    if model.startswith((HEAD_PREFIX, RULES_PREFIX)):
        return True
    own = local_model(model) if model.startswith(LOCAL_PREFIX) else server_model(model)
    return own is not None and own.own_labels


def _description_fault(description: str) -> str | None:
    if is_blank(description):
        return "invalid_field:descriptions:an object whose values say something"
    return "nul_character:descriptions" if "\x00" in description else None


def _are_templates(templates: Sequence[str]) -> bool:
    return 0 < len(templates) <= MAX_TEMPLATES and all("{}" in template and len(template) <= MAX_LABEL_CHARS for template in templates)


TASK: Final = Classify()
