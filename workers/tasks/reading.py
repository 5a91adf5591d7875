"""What a row asks for: its JSON body, checked strictly and laid over the job's defaults.

A body enters as bytes; what leaves is what the row's task makes of it, or the code of the failure the row gets (``code:field:detail``, see
:mod:`db.failures`). A bad row is data, not an error: nothing here raises for it, and no message of a JSON decoder (they hold the input)
leaves this file. A field that is absent or null takes the job's default. A body that the strict decoder does not take is read a second
time, more slowly, without what clients send along and means nothing (:mod:`workers.tasks.public_fields`).

Light: the HTTP front checks a job's defaults with :func:`check_defaults`.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import msgspec

from workers.engines.contract.generation import Message
from workers.models.card import ModelCard
from workers.tasks.body import Body
from workers.tasks.public_fields import MESSAGE_NAMES, OWN_NAMES, PLAIN_NAMES, settled
from workers.tasks.task import Task

MAX_LABELS: Final = 5_000  # a row's scores are written for every label: 5,000 make some 150 kB a row
MAX_LABEL_CHARS: Final = 1_000  # a label is embedded as one short text; more is a document in the wrong field


class InvalidDefaults(ValueError):
    """A job's defaults do not fit its task. Holds the failure code and nothing else."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reader:
    """Reads the rows of one job.

    Parameters
    ----------
    endpoint: as the job has it; it tells a chat from a completion.
    defaults: fields laid under every row's body.
    model: taken where neither a row nor the defaults name one.
    max_labels: more labels than this fail the row.

    Raises :class:`InvalidDefaults`.
    """

    def __init__(
        self, task: Task[Any], endpoint: str, defaults: Mapping[str, object], *, model: str | None = None, max_labels: int = MAX_LABELS
    ) -> None:
        self._task = task
        self._endpoint = endpoint
        self._max_labels = max_labels
        self._body: type[Body] = task.body_of(endpoint)
        self._decoder: msgspec.json.Decoder[Body] = msgspec.json.Decoder(self._body)
        self._defaults = _convert_defaults(self._body, defaults)
        if self._defaults.model is None:
            self._defaults.model = model
        if (code := task.fault(self._defaults, endpoint, max_labels) or task.defaults_fault(self._defaults)) is not None:
            raise InvalidDefaults(code)

    def ask(self, body: bytes, *, plain: bool = False) -> Any:
        """What a body asks for, or its failure code. ``plain``: of a row that names no endpoint, whose file may serve several tasks."""
        try:
            found = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            again = _read_again(self._body, body, str(error), plain=plain)
            if isinstance(again, str):
                return again
            found = again
        except UnicodeDecodeError:
            return "invalid_utf8"
        except msgspec.DecodeError:
            return _malformed_code(body)
        except RecursionError:
            return "too_deep"
        if (code := self._task.fault(found, self._endpoint, self._max_labels)) is not None:
            return code
        for name in self._task.laid:
            if getattr(found, name) is None:
                setattr(found, name, getattr(self._defaults, name))
        return self._task.ask(found, self._defaults, self._endpoint)


def check_defaults(task: Task[Any], endpoint: str, defaults: Mapping[str, object], *, max_labels: int = MAX_LABELS) -> str | None:
    """The failure code of defaults that no row could use, or None where they fit the task."""
    try:
        Reader(task, endpoint, defaults, max_labels=max_labels)
    except InvalidDefaults as fault:
        return fault.code
    return None


def check_pair(task: Task[Any], endpoint: str, defaults: Mapping[str, object], card: ModelCard) -> str | None:
    """The failure code of defaults that fit the task, and ask of this model what one of its kind cannot do; or None."""
    return task.pair_fault(card, _convert_defaults(task.body_of(endpoint), defaults))


def check_writer(task: Task[Any], endpoint: str, defaults: Mapping[str, object]) -> str | None:
    """The same of what is asked of rules or a template."""
    return task.writer_fault(_convert_defaults(task.body_of(endpoint), defaults))


def text_fault(text: str | None, field: str = "input") -> str | None:
    """The failure code of a text that no model can be asked about, or None."""
    if text is None:
        return "missing_input" if field == "input" else f"missing_input:{field}"
    if _BLANK.fullmatch(text) is not None:  # as is_blank, without one more function on every row's way
        return f"empty_input:{field}"
    if "\x00" in text:
        return f"nul_character:{field}"
    return None


def is_blank(text: str) -> bool:
    """Whether nothing of it can be seen: space, control characters, and what Unicode lets a reader ignore (zero-width spaces, joiners,
    direction marks, fillers)."""
    return _BLANK.fullmatch(text) is not None


def same_label(label: str) -> str:
    """What two labels have in common that a reader cannot tell apart: ``sport`` and ``sport `` are one."""
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", label)).split())


def label_fault(label: str) -> str | None:
    if is_blank(label):
        return "empty_label"
    if len(label) > MAX_LABEL_CHARS:
        return "invalid_field:label"
    if "\x00" in label:
        return "nul_character:label"
    return None


def check_labels(labels: Sequence[str], max_labels: int = MAX_LABELS) -> str | None:
    """The failure code of a list of labels, or None where a row can be classified with it."""
    if len(labels) < 2:
        return "too_few_labels"
    if len(labels) > max_labels:
        return "too_many_labels"
    for label in labels:
        if (code := label_fault(label)) is not None:
            return code
    if len({same_label(label) for label in labels}) != len(labels):
        return "duplicate_label"
    return None


def _convert_defaults(kind: type[Body], defaults: Mapping[str, object]) -> Body:
    body: Body | str
    try:
        body = _converted(kind, dict(defaults))
        msgspec.json.encode(body)  # a lone surrogate shows here
    except UnicodeEncodeError:
        body = "lone_surrogate"
    except RecursionError:
        body = "too_deep"
    if isinstance(body, str):
        raise InvalidDefaults(body)
    if not all(math.isfinite(value) for value in msgspec.structs.astuple(body) if isinstance(value, float)):
        raise InvalidDefaults("non_finite_number")
    return body


def _read_again(kind: type[Body], body: bytes, fault: str, *, plain: bool) -> Body | str:
    """``fault``: what the strict decoder said."""
    try:
        fields = msgspec.json.decode(body)
        if plain and isinstance(fields, dict):
            fields = {kind.plain[name]: value for name, value in fields.items() if name in kind.plain} | fields
            fields = {name: value for name, value in fields.items() if name not in PLAIN_NAMES or name in kind.__struct_fields__}
        return _converted(kind, fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _validation_code(fault, kind)


def _converted(kind: type[Body], fields: object) -> Body | str:
    """A body from what JSON was read into, or its failure code."""
    if isinstance(fields, dict):
        fields = settled(fields, kind.__struct_fields__, kind.turns)
        if isinstance(fields, str):
            return fields
        named = next((name for name in fields if name not in kind.__struct_fields__ and name in OWN_NAMES), None)
        if named is not None:
            return unknown_field(kind, named)
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        return _validation_code(str(error), kind)


def unknown_field(kind: type[Body], named: str = "") -> str:
    """The failure code of a field that the task does not read. ``named``: one of our own names, or nothing."""
    return f"unknown_field:{named}:{', '.join(kind.__struct_fields__)}"


_AT: Final = re.compile(r" - at `\$\.([\w\[\].]+)`$")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_EXPECTED: Final = re.compile(r"Expected `([a-z |]+)`(?:, got `([a-z]+)`| (of length )?(>=|<=|>|<) (-?[\d.e+]+))(?: - at |$)")
_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def _validation_code(sentence: str, kind: type[Body]) -> str:
    """Only names of ours, places, types and our own bounds are taken from the decoder's sentence: the rest may quote the row."""
    found = _AT.search(sentence)
    path = found.group(1) if found else ""
    if not set(_NAME.findall(path)) <= {*kind.__struct_fields__, *MESSAGE_NAMES}:
        path = ""
    if sentence.startswith("Object contains unknown field"):
        return f"unknown_field:{path}:{', '.join(sorted(MESSAGE_NAMES))}" if path else unknown_field(kind)
    if sentence.startswith("Number out of range"):
        return f"non_finite_number:{path}" if path else "non_finite_number"
    if not path:
        return "not_an_object"
    if (missing := _MISSING.match(sentence)) is not None and missing[1] in MESSAGE_NAMES:
        path = f"{path}.{missing[1]}"
    expected = _EXPECTED.match(sentence)
    if expected is None:
        return f"invalid_field:{path}{_choices(kind, path)}"
    kinds, got, of_length, sign, bound = expected.groups()
    wanted = " or ".join(_WORDS[word] for word in kinds.split(" | ") if word != "null")
    if got is not None:
        is_fraction = got == "float" and "int" in kinds
        return f"invalid_field:{path}:{wanted}|{'a fraction' if is_fraction else 'a number' if got == 'int' else _WORDS[got]}"
    what = {"str": " characters", "array": " entries"}.get(kinds, "") if of_length else ""
    return f"invalid_field:{path}:{wanted} of {_BOUNDS[sign]} {bound.removesuffix('.0')}{what}"


def _choices(kind: type[Body], path: str) -> str:
    """What the field may be where it is one of a few."""
    hints = get_type_hints(Message if path.startswith(f"{kind.turns}[") else kind, include_extras=True)
    literals = _literals(hints.get(_NAME.findall(path)[-1]))
    return f":{' or '.join(map(json.dumps, literals))}" if literals else ""


def _literals(hint: object) -> tuple[object, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return next((found for part in get_args(hint) if (found := _literals(part))), ())


_INVISIBLE: Final = re.compile(
    "[\x01-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
_BLANK: Final = re.compile(rf"(?:\s|{_INVISIBLE.pattern})*")


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
