"""JSON lines: the OpenAI batch format, and plain ``{"id"?, "text" | "input" | "prompt" | "messages", "label"?}`` lines.

A body is kept verbatim, as the bytes that were sent; workers read it strictly (:mod:`workers.tasks.reading`). Here only the envelope is
read, at about 2 µs a line.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Final

import msgspec
from msgspec import Raw

from api.endpoints import TASKS
from api.formats.beginning import check_beginning
from api.formats.header import find_column, missing_column
from api.formats.json_text import Members, is_deep, is_non_finite, legible_member, malformed_code, may_repeat
from api.formats.limits import Columns, FileLimits
from api.formats.lines import LongLine, split_lines, text_chunks
from api.formats.plain import defective_row, fit_id, is_custom_id, plain_row
from api.tables.noted import NotedFields
from db.files.rows import NewRow
from workers.tasks.public_fields import PLAIN_NAMES


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: Raw


_LINE_FIELDS: Final = ("custom_id", "method", "url", "body")
QUOTES_AROUND: Final = 2 * len(_LINE_FIELDS) + 6  # those of the names, and of three values
_line: Final = msgspec.json.Decoder(_Line)
_fields: Final = msgspec.json.Decoder(dict[str, Raw])
_scalar: Final = msgspec.json.Decoder(str | int | bool | None)
PROMPTS: Final = frozenset({"prompt", "input"})
_REAL: Final = re.compile(rb"-?\d{1,300}(?:\.\d{1,300})?(?:[eE][+-]?\d{1,9})?")
MAX_EXPONENT: Final = 308  # of the largest double, in tens
_KINDS: Final = {b'"': "text", b"[": "a list", b"{": "an object", b"t": "true or false", b"f": "true or false", b"n": "null"}
_NULL: Final = Raw(b"null")
_encode: Final = msgspec.json.Encoder().encode


def batch_rows(chunks: Iterable[bytes], limits: FileLimits) -> Iterator[NewRow]:
    """One row a line of an OpenAI batch file; blank lines are skipped and still counted."""
    for number, line in _text_lines(chunks, limits):
        yield _batch_row(number, line)


def plain_rows(chunks: Iterable[bytes], columns: Columns, limits: FileLimits, noted: NotedFields | None = None) -> Iterator[NewRow]:
    """One row a line; fields that are not named by ``columns`` are left aside, or kept where they are ``noted``. Raises Refused at the end
    where a field that is needed, or was named, is in none of the lines: they need not all have it, so that no earlier line can tell."""
    unseen = _needed(columns)
    first: list[str] | None = None
    spelled: dict[str, str] = {}
    looked_at = _looked_at(columns)
    for number, line in _text_lines(chunks, limits):
        if unseen and not isinstance(line, LongLine) and not isinstance(fields := _object_of(line), str):
            if first is None:
                first, spelled = list(fields), _spelled_otherwise(fields, columns)
                looked_at |= {own: looked_at[name] for own, name in spelled.items()}
            fields = _as_usual(fields, spelled)
            unseen = {field: names for field, names in unseen.items() if not any(name in fields for name in names)}
        yield _plain_row(number, line, columns, spelled, looked_at, noted)
    if first is not None:
        for field, names in unseen.items():
            raise missing_column(field, names, first)


def _looked_at(columns: Columns) -> dict[str, str]:
    """Names that a row is made of, each with the one that a failure may tell: what the user chose stays the user's own."""
    chosen = {columns.text: "input", columns.id: "custom_id", columns.label: "label"}
    names = (*columns.text_names, *columns.id_names, *columns.label_names, *(PLAIN_NAMES if columns.text is None else ("messages",)))
    return {name: chosen.get(name, name) for name in names}


def _spelled_otherwise(fields: Mapping[str, Raw], columns: Columns) -> dict[str, str]:
    """Of the first object: its names that are those looked for but for their case and spaces, as in a CSV, each with the name meant."""
    header = list(fields)
    spelled = {}
    for field, names in (("text_column", columns.text_names), ("id_column", columns.id_names), ("label_column", columns.label_names)):
        if any(name in fields for name in names):
            continue
        for name in names:
            if (place := find_column(header, field, (name,), required=False)) is not None:
                spelled[header[place]] = name
                break
    return spelled


def _as_usual(fields: dict[str, Raw], spelled: Mapping[str, str]) -> dict[str, Raw]:
    """With the names that are looked for beside those of the file; one that is there as it is looked for stays."""
    return {**{name: fields[own] for own, name in spelled.items() if own in fields}, **fields}


def _needed(columns: Columns) -> dict[str, tuple[str, ...]]:
    """What at least one line must have, by form field."""
    needed = {"text_column": columns.text_names if columns.text is not None else (*columns.text_names, "messages")}
    if columns.id is not None:
        needed["id_column"] = columns.id_names
    if columns.label is not None or columns.label_required:
        needed["label_column"] = columns.label_names
    return needed


def _text_lines(chunks: Iterable[bytes], limits: FileLimits) -> Iterator[tuple[int, bytes]]:
    """Raises Refused for what is not JSON lines: seen once, at the file's beginning, and not told line by line."""
    found = split_lines(text_chunks(chunks, limits), limits.max_line_bytes)
    lines = ((number, line if isinstance(line, LongLine) else line.strip()) for number, line in found)
    held = list(islice((pair for pair in lines if pair[1]), 2))
    if held:
        check_beginning(held[0][1], held[1][1] if len(held) > 1 else None)
    yield from held
    for number, line in lines:
        if line:
            yield number, line


def _batch_row(number: int, line: bytes) -> NewRow:
    if isinstance(line, LongLine):
        return defective_row(number, "line_too_long", _legible_id(line))
    try:
        parsed = _line.decode(line)
    except RecursionError:
        return defective_row(number, "too_deep", _legible_id(line), raw=line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _defective_line(number, line)
    body = bytes(parsed.body)
    if (code := _value_fault(parsed, body)) is not None:
        return defective_row(number, code, fit_id(parsed.custom_id), raw=line)
    try:
        size = len(body.decode())
    except UnicodeDecodeError:
        return defective_row(number, "invalid_utf8", parsed.custom_id, raw=line)
    code = "too_deep" if is_deep(body) else "non_finite_number" if is_non_finite(body) else _repeated_in_line(line, body)
    if code is not None:
        return defective_row(number, code, parsed.custom_id, raw=line)
    return NewRow(line=number, endpoint=parsed.url, defect=None, custom_id=parsed.custom_id, body=body, size=size)


def _repeated_in_line(line: bytes, body: bytes) -> str | None:
    """Of a line's own fields. Of those in its body the last counts, as clients' servers have it. Quotes are counted around the body, where
    there are as many in nearly all lines."""
    if line.count(b'"', 0, -len(body) - 1) == QUOTES_AROUND and line.endswith(body, 0, -1):
        return None
    name = Members.of(line).repeated(_LINE_FIELDS)
    return None if name is None else f"repeated_field:{name}"


def _value_fault(line: _Line, body: bytes) -> str | None:
    if not is_custom_id(line.custom_id):
        return "invalid_custom_id"
    if line.method != "POST":
        return "wrong_method"
    if line.url not in TASKS:
        return "wrong_url"
    if body == b"null":
        return "missing_body"
    return None if body.startswith(b"{") else f"invalid_field:body:an object|{_kind_of(line.body)}"


def _defective_line(number: int, line: bytes) -> NewRow:
    """What is wrong with a line that the strict decoder refused, with its id where that can be read. Members that are null are none."""
    fields = _object_of(line)
    if isinstance(fields, str):
        return defective_row(number, fields, _legible_id(line), raw=line)
    custom_id = _text_of(fields.get("custom_id", _NULL))
    known = fit_id(custom_id)
    more = fields.keys() - set(_LINE_FIELDS)
    if not all(_is_null(fields[name]) for name in more):
        code = f"unknown_field::{', '.join(_LINE_FIELDS)}"
    elif _is_null(fields.get("custom_id")):
        code = "missing_custom_id"
    elif known is None:
        code = "invalid_custom_id"
    elif _text_of(fields.get("method", _NULL)) != "POST":
        code = "wrong_method"
    elif _text_of(fields.get("url", _NULL)) not in TASKS:
        code = "wrong_url"
    elif _is_null(fields.get("body")):
        code = "missing_body"
    elif more and (repeated := _repeated_in_line(line, bytes(fields["body"]))) is not None:
        code = repeated
    elif more:
        return _batch_row(number, msgspec.json.encode({name: fields[name] for name in _LINE_FIELDS}))
    else:
        code = "invalid_json"
    return defective_row(number, code, known, raw=line)


def _legible_id(line: bytes, names: tuple[str, ...] = ()) -> str | None:
    """A fault elsewhere in the line does not cost it its id. ``names``: of a plain row's; a batch line's must be text."""
    for name in names or ("custom_id",):
        raw = legible_member(line, name)
        if raw is not None:
            custom_id = _name_of({name: raw}, (name,)) if names else _text_of(raw)
            return fit_id(_str(custom_id))
    return None


def _plain_row(
    number: int,
    line: bytes,
    columns: Columns,
    spelled: Mapping[str, str],
    looked_at: Mapping[str, str],
    noted: NotedFields | None,
) -> NewRow:
    fields = "line_too_long" if isinstance(line, LongLine) else _object_of(line)
    if not isinstance(fields, str) and may_repeat(line, fields) and (name := Members.of(line).repeated(looked_at)) is not None:
        fields = f"repeated_field:{looked_at[name]}"
    if isinstance(fields, str):
        names = (*columns.id_names, *(own for own, name in spelled.items() if name in columns.id_names))
        return defective_row(number, fields, _legible_id(line, names), raw=None if isinstance(line, LongLine) else line)
    own = fields
    if spelled:  # of few files: the call would cost every row
        fields = _as_usual(fields, spelled)
    custom_id, label = _name_of(fields, columns.id_names), _name_of(fields, columns.label_names)
    known = fit_id(_str(custom_id))
    field = next((name for name in columns.text_names if name in fields), None)
    text_field = next((name for name, meant in spelled.items() if meant == field and name in own), field)
    if noted is not None:
        noted.note(own, text_field)
    asked = _asked(fields, field, columns)
    if "messages" in asked:
        field = None
    elif field is None:
        return defective_row(number, "missing_text_column", known, raw=line)
    value = None if field is None else _scalar_of(fields[field])
    if field is not None and value is not None and not isinstance(value, str):
        return defective_row(number, f"invalid_field:input:text|{_kind_of(fields[field])}", known, raw=line)
    if custom_id is _UNFIT:
        return defective_row(number, "invalid_custom_id", raw=line)
    if label is _UNFIT:
        return defective_row(number, "invalid_field:label:text or a number", known, raw=line)
    text = value if isinstance(value, str) else None
    row = plain_row(number, text, _str(custom_id), _str(label), label_required=columns.label_required, asked=asked)
    if noted is None or row.defect is not None:
        return row if row.defect is None else defective_row(number, row.defect, row.custom_id, raw=line)
    return NewRow(
        row.line, None, None, row.custom_id, row.body, row.size, _kept_fields(own, asked, text_field if field else None, noted.text)
    )


def _kept_fields(own: Mapping[str, Raw], asked: Mapping[str, Raw], text_field: str | None, usual: str | None) -> bytes:
    """What of a line stands beside its body, whose input is of the field ``text_field``. A line that has its text elsewhere than ``usual``
    is kept whole, and in a list, by which it is known."""
    kept = {name: raw for name, raw in own.items() if name not in asked and not (name == text_field == usual)}
    return _encode(kept if text_field == usual else [kept])


def _asked(fields: dict[str, Raw], field: str | None, columns: Columns) -> dict[str, Raw]:
    """What a row with `messages`, a `prompt` or an `input` asks of a generation by itself. Beside a text of another name such fields are
    columns like any other: a `temperature` there is as like to be the weather's."""
    if columns.text is not None or not (field in PROMPTS or "messages" in fields):
        return {}
    return {name: fields[name] for name in PLAIN_NAMES if not _is_null(fields.get(name))}


def _object_of(line: bytes) -> dict[str, Raw] | str:
    """The line's fields, or its failure code."""
    try:
        fields = _fields.decode(line)
    except RecursionError:
        return "too_deep"
    except msgspec.ValidationError:
        return "not_an_object"
    except UnicodeDecodeError:
        return "invalid_utf8"
    except msgspec.DecodeError:
        return malformed_code(line)
    if not line.isascii():
        try:
            line.decode()
        except UnicodeDecodeError:
            return "invalid_utf8"
    return "too_deep" if is_deep(line) else fields


class _Unfit:
    """Stands for a value that is neither text, a whole number nor a truth value."""


_UNFIT: Final = _Unfit()


def _scalar_of(raw: Raw) -> str | int | bool | _Unfit | None:
    try:
        value: str | int | bool | None = _scalar.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return _UNFIT
    return value


def _name_of(fields: dict[str, Raw], names: tuple[str, ...]) -> str | _Unfit | None:
    """An id or a label: numbers count as their digits, since data sets number their labels; a whole one that some languages write as 6.0
    or 6e0 is 6."""
    raw = next((fields[name] for name in names if name in fields), None)
    if raw is None:
        return None
    value = _scalar_of(raw)
    if isinstance(value, _Unfit) and _REAL.fullmatch(raw):
        return _number(bytes(raw).decode())
    if value is None or isinstance(value, str | _Unfit):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(written: str) -> str:
    """A whole one as it is counted, another one as it is written; so is what no double holds."""
    number = Decimal(written)
    is_whole = number.adjusted() <= MAX_EXPONENT and number == number.to_integral_value()
    return str(int(number)) if is_whole else written


def _kind_of(raw: Raw) -> str:
    return _KINDS.get(bytes(raw)[:1], "a number")


def _str(value: str | _Unfit | None) -> str | None:
    return value if isinstance(value, str) else None


def _text_of(raw: Raw) -> str | None:
    value = _scalar_of(raw)
    return value if isinstance(value, str) else None


def _is_null(raw: Raw | None) -> bool:
    return raw is None or bytes(raw) == b"null"
