"""What a row asks for: its JSON body, checked strictly and laid over the job's defaults.

A body enters as bytes; what leaves is what the row's task makes of it, or the code of the failure the row gets (``code`` or ``code:field``,
see :mod:`db.failures`). A bad row is data, not an error: nothing here raises for it, and no message of a JSON decoder (they hold the input)
leaves this file. A field that is absent or null takes the job's default.

Light: the HTTP front checks a job's defaults with :func:`check_defaults`.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from workers.tasks.body import Body
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
        self._decoder: msgspec.json.Decoder[Body] = msgspec.json.Decoder(task.body)
        self._defaults = _convert_defaults(task.body, defaults)
        if self._defaults.model is None:
            self._defaults.model = model
        if (code := task.fault(self._defaults, endpoint, max_labels)) is not None:
            raise InvalidDefaults(code)

    def ask(self, body: bytes) -> Any:
        """What a body asks for, or its failure code."""
        try:
            found = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            return _validation_code(str(error), self._task.body.__struct_fields__)
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


def text_fault(text: str | None, field: str = "input") -> str | None:
    """The failure code of a text that no model can be asked about, or None."""
    if text is None:
        return "missing_input" if field == "input" else f"missing_input:{field}"
    if not text or text.isspace():
        return f"empty_input:{field}"
    if "\x00" in text:
        return f"nul_character:{field}"
    return None


def label_fault(label: str) -> str | None:
    if not label or label.isspace():
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
    if len(set(labels)) != len(labels):
        return "duplicate_label"
    return None


def _convert_defaults(kind: type[Body], defaults: Mapping[str, object]) -> Body:
    code: str | None = None
    try:
        body = msgspec.convert(dict(defaults), kind)
        msgspec.json.encode(body)  # a lone surrogate shows here
        if not all(math.isfinite(value) for value in msgspec.structs.astuple(body) if isinstance(value, float)):
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
