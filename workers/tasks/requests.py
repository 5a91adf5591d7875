"""What a row asks for: its JSON body, checked strictly and laid over the job's defaults.

A body enters as bytes; what leaves is a request a model can run, or the code of the failure the row gets (``code`` or ``code:field``, see
:mod:`db.failures`). A bad row is data, not an error: nothing here raises for it, and no message of a JSON decoder (they hold the input)
leaves this file. A field that is absent or null takes the job's default.

Light: the HTTP front checks a job's defaults with :func:`check_defaults`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from workers.engines.contract.long_texts import TRUNCATE, Long, OnLong, Pool, Stride
from workers.models.folders import PREFIX as LOCAL_PREFIX
from workers.models.folders import local_model

MAX_LABELS: Final = 5_000  # a row's scores are written for every label: 5,000 make some 150 kB a row
MAX_LABEL_CHARS: Final = 1_000  # a label is embedded as one short text; more is a document in the wrong field
MAX_TEMPLATES: Final = 32  # each template is one more text to embed for every label
MAX_OUTPUT_TOKENS: Final = 32_768  # above every context length in the registry: catches slips, the engine knows its own limit

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Temperature = Annotated[float, Meta(ge=0.0, le=2.0)]
TopP = Annotated[float, Meta(gt=0.0, le=1.0)]
OutputTokens = Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: Literal["system", "developer", "user", "assistant"]
    content: str
    name: Name | None = None


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields every task knows. ``label`` is what a row is known to be: only training reads it, but one file may serve several jobs."""

    model: Name | None = None
    input: str | None = None
    label: str | None = None


class ClassifyBody(Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    labels: list[str] | None = None
    label_set: Name | None = None
    templates: list[str] | None = None
    on_long: OnLong | None = None
    pool: Pool | None = None
    stride: Stride | None = None


class EmbedBody(Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    encoding_format: Literal["float", "base64"] | None = None
    on_long: OnLong | None = None
    pool: Pool | None = None
    stride: Stride | None = None
    user: str | None = None


class GenerateBody(Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``input`` is the text of a plain row: it follows the default ``messages`` as the user's turn."""

    messages: list[Message] | None = None
    prompt: str | None = None
    max_tokens: OutputTokens | None = None
    max_completion_tokens: OutputTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=4)] | None = None
    n: Literal[1] | None = None
    user: str | None = None


class TrainBody(Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


AnyBody = ClassifyBody | EmbedBody | GenerateBody | TrainBody


class ClassifyRequest(msgspec.Struct, frozen=True):
    """``labels`` is one list object for all rows that take the job's: compare by identity first, and do not change it."""

    model: str | None
    text: str
    labels: list[str] | None
    label_set: str | None
    templates: list[str] | None
    long: Long


class EmbedRequest(msgspec.Struct, frozen=True):
    model: str | None
    text: str
    base64: bool
    long: Long


class GenerationRequest(msgspec.Struct, frozen=True):
    """Exactly one of ``messages`` (chat) and ``prompt`` (completion) is set. None means: the engine's own default."""

    model: str | None
    messages: list[Message] | None
    prompt: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: list[str]


class TrainingExample(msgspec.Struct, frozen=True):
    text: str
    label: str


Request = ClassifyRequest | EmbedRequest | GenerationRequest | TrainingExample

BODIES: Final[dict[str, type[ClassifyBody] | type[EmbedBody] | type[GenerateBody] | type[TrainBody]]] = {
    "classify": ClassifyBody,
    "embed": EmbedBody,
    "generate": GenerateBody,
    "train": TrainBody,
}
B = TypeVar("B", ClassifyBody, EmbedBody, GenerateBody, TrainBody)
HEAD_PREFIX: Final = "head:"

_classify: Final = msgspec.json.Decoder(ClassifyBody)
_embed: Final = msgspec.json.Decoder(EmbedBody)
_generate: Final = msgspec.json.Decoder(GenerateBody)
_train: Final = msgspec.json.Decoder(TrainBody)


class InvalidDefaults(ValueError):
    """A job's defaults do not fit its task. Holds the failure code and nothing else."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reader:
    """Reads the rows of one job.

    Parameters
    ----------
    task, endpoint: as the job has them; the endpoint tells a chat from a completion.
    defaults: fields laid under every row's body.
    model: taken where neither a row nor the defaults name one.
    max_labels: more labels than this fail the row.

    Raises :class:`InvalidDefaults`.
    """

    def __init__(
        self, task: str, endpoint: str, defaults: Mapping[str, object], *, model: str | None = None, max_labels: int = MAX_LABELS
    ) -> None:
        self._chat = endpoint != "/v1/completions"
        self._max_labels = max_labels
        found = _convert_defaults(task, defaults)
        self._defaults = found if found.model is not None else msgspec.structs.replace(found, model=model)
        if (code := self._fault(self._defaults)) is not None:
            raise InvalidDefaults(code)

    def read(self, body: bytes) -> Request | str:
        """One row's request, or its failure code."""
        match self._defaults:
            case ClassifyBody() as defaults:
                return self.parse_classify(body, defaults)
            case GenerateBody() as defaults:
                return self.parse_generate(body, defaults)
            case EmbedBody() as defaults:
                return self.parse_embed(body, defaults)
            case defaults:
                return self.parse_train(body, defaults)

    def parse_classify(self, body: bytes, defaults: ClassifyBody) -> ClassifyRequest | str:
        row = _decode(_classify, body)
        if isinstance(row, str):
            return row
        if (code := self._fault(row)) is not None:
            return code
        text = row.input if row.input is not None else defaults.input
        if text is None:
            return "missing_input"
        if (code := _text_fault(text)) is not None:
            return code
        model = row.model if row.model is not None else defaults.model
        labels, label_set = row.labels, row.label_set
        if model is not None and _brings_labels(model):
            if labels is not None or label_set is not None:  # it answers with the labels it was trained on
                return "invalid_field:labels"
        elif labels is None and label_set is None:
            labels, label_set = defaults.labels, defaults.label_set
            if labels is None and label_set is None:
                return "missing_labels"
        templates = row.templates if row.templates is not None else defaults.templates
        return ClassifyRequest(model, text, labels, label_set, templates, _long(row, defaults))

    def parse_embed(self, body: bytes, defaults: EmbedBody) -> EmbedRequest | str:
        row = _decode(_embed, body)
        if isinstance(row, str):
            return row
        text = row.input if row.input is not None else defaults.input
        if text is None:
            return "missing_input"
        if (code := _text_fault(text)) is not None:
            return code
        model = row.model if row.model is not None else defaults.model
        encoding = row.encoding_format or defaults.encoding_format
        return EmbedRequest(model, text, encoding == "base64", _long(row, defaults))

    def parse_generate(self, body: bytes, defaults: GenerateBody) -> GenerationRequest | str:
        row = _decode(_generate, body)
        if isinstance(row, str):
            return row
        if (code := self._fault(row)) is not None:
            return code
        messages = row.messages if row.messages is not None else defaults.messages
        prompt = row.prompt if row.prompt is not None else defaults.prompt
        plain = row.input if row.input is not None else defaults.input
        if plain is not None:
            if (code := _text_fault(plain)) is not None:
                return code
            if self._chat:
                messages = [*(messages or ()), Message(role="user", content=plain)]
            elif row.prompt is None:
                prompt = plain
        if self._chat:
            if not messages:
                return "missing_input:messages"
            if (code := _messages_fault(messages)) is not None:
                return code
            prompt = None
        else:
            if prompt is None:
                return "missing_input:prompt"
            if not prompt:
                return "empty_input:prompt"
            if "\x00" in prompt:
                return "nul_character:prompt"
            messages = None
        limit = row.max_completion_tokens or row.max_tokens or defaults.max_completion_tokens or defaults.max_tokens
        stop = row.stop if row.stop is not None else defaults.stop
        return GenerationRequest(
            model=row.model if row.model is not None else defaults.model,
            messages=messages,
            prompt=prompt,
            max_tokens=limit,
            temperature=row.temperature if row.temperature is not None else defaults.temperature,
            top_p=row.top_p if row.top_p is not None else defaults.top_p,
            seed=row.seed if row.seed is not None else defaults.seed,
            stop=[stop] if isinstance(stop, str) else list(stop or ()),
        )

    def parse_train(self, body: bytes, defaults: TrainBody) -> TrainingExample | str:
        row = _decode(_train, body)
        if isinstance(row, str):
            return row
        text = row.input if row.input is not None else defaults.input
        if text is None:
            return "missing_input"
        if (code := _text_fault(text)) is not None:
            return code
        label = row.label if row.label is not None else defaults.label
        if label is None:
            return "missing_label"
        if (code := _label_fault(label)) is not None:
            return code
        return TrainingExample(text, label)

    def _fault(self, body: AnyBody) -> str | None:
        """What the field types cannot say, for a row and for defaults alike."""
        if isinstance(body, ClassifyBody):
            if body.labels is not None:
                if body.label_set is not None:
                    return "invalid_field:label_set"  # two answers to one question
                if (code := check_labels(body.labels, self._max_labels)) is not None:
                    return code
            if body.templates is not None and not _are_templates(body.templates):
                return "invalid_field:templates"
        elif isinstance(body, GenerateBody):
            if not self._chat and body.messages is not None:
                return "unknown_field:messages"
            if self._chat and body.prompt is not None:
                return "unknown_field:prompt"
        return None


def _long(row: ClassifyBody | EmbedBody, defaults: ClassifyBody | EmbedBody) -> Long:
    on_long = row.on_long or defaults.on_long
    if on_long is None or on_long == "truncate":
        return TRUNCATE
    stride = row.stride if row.stride is not None else defaults.stride
    made = Long(on_long, row.pool or defaults.pool or TRUNCATE.pool)
    return made if stride is None else msgspec.structs.replace(made, stride=stride)


def check_defaults(task: str, endpoint: str, defaults: Mapping[str, object], *, max_labels: int = MAX_LABELS) -> str | None:
    """The failure code of defaults that no row could use, or None where they fit the task."""
    try:
        Reader(task, endpoint, defaults, max_labels=max_labels)
    except InvalidDefaults as fault:
        return fault.code
    return None


def _brings_labels(model: str) -> bool:
    """Whether a model answers with labels of its own: a head, or an operator's sequence classifier."""
    if model.startswith(HEAD_PREFIX):
        return True
    own = local_model(model) if model.startswith(LOCAL_PREFIX) else None
    return own is not None and own.own_labels


def check_labels(labels: Sequence[str], max_labels: int = MAX_LABELS) -> str | None:
    """The failure code of a list of labels, or None where a row can be classified with it."""
    if len(labels) < 2:
        return "too_few_labels"
    if len(labels) > max_labels:
        return "too_many_labels"
    for label in labels:
        if (code := _label_fault(label)) is not None:
            return code
    if len(set(labels)) != len(labels):
        return "duplicate_label"
    return None


def _label_fault(label: str) -> str | None:
    if not label or label.isspace():
        return "empty_label"
    if len(label) > MAX_LABEL_CHARS:
        return "invalid_field:label"
    if "\x00" in label:
        return "nul_character:label"
    return None


def _are_templates(templates: Sequence[str]) -> bool:
    return 0 < len(templates) <= MAX_TEMPLATES and all("{}" in template and len(template) <= MAX_LABEL_CHARS for template in templates)


def _messages_fault(messages: Sequence[Message]) -> str | None:
    if any("\x00" in message.content for message in messages):
        return "nul_character:messages"
    if not any(message.content and not message.content.isspace() for message in messages):
        return "empty_input:messages"
    return None


def _text_fault(text: str) -> str | None:
    if not text or text.isspace():
        return "empty_input:input"
    if "\x00" in text:
        return "nul_character:input"
    return None


def _convert_defaults(task: str, defaults: Mapping[str, object]) -> AnyBody:
    kind = BODIES[task]
    code: str | None = None
    try:
        body: AnyBody = msgspec.convert(dict(defaults), kind)
        msgspec.json.encode(body)  # a lone surrogate shows here
        if isinstance(body, GenerateBody) and not all(math.isfinite(x) for x in (body.temperature, body.top_p) if x is not None):
            code = "non_finite_number"
    except msgspec.ValidationError as error:
        code = _validation_code(str(error), kind.__struct_fields__)
    except UnicodeEncodeError:
        code = "lone_surrogate"
    except RecursionError:
        code = "too_deep"
    if code is not None:
        raise InvalidDefaults(code)
    return body


def _decode(decoder: msgspec.json.Decoder[B], body: bytes) -> B | str:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _validation_code(str(error), decoder.type.__struct_fields__)
    except UnicodeDecodeError:
        return "invalid_utf8"
    except msgspec.DecodeError:
        return _malformed_code(body)
    except RecursionError:
        return "too_deep"


_PATH: Final = re.compile(r"- at `\$\.(\w+)[^`]*`$")


def _validation_code(message: str, fields: Sequence[str]) -> str:
    """Only a field name of ours is taken from the decoder's sentence: the rest may quote the row."""
    found = _PATH.search(message)
    field = found.group(1) if found and found.group(1) in fields else None
    if message.startswith("Object contains unknown field"):
        code = "unknown_field"
    elif message.startswith("Number out of range"):
        code = "non_finite_number"
    elif field is None:
        return "not_an_object"
    else:
        code = "invalid_field"
    return code if field is None else f"{code}:{field}"


_LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_NOT_A_NUMBER: Final = re.compile(rb"[:\[,\s](?:NaN|-?Infinity)\s*[,\]}]")


def _malformed_code(body: bytes) -> str:
    """Why a JSON decoder gave up, by what people most often send."""
    if b"\x00" in body:
        return "nul_character"
    if _LONE_SURROGATE.search(body):
        return "lone_surrogate"
    if _NOT_A_NUMBER.search(body):
        return "non_finite_number"
    return "invalid_json"
