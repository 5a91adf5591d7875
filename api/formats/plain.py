"""A plain row: a text, with an id and a label where the file has them. CSV, Parquet and plain JSON lines all end here."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api.formats.limits import MAX_ID_CHARS
from db.files.rows import NewRow


class PlainBody(msgspec.Struct, omit_defaults=True):
    input: str
    label: str | None = None


_encode: Final = msgspec.json.Encoder().encode


def plain_row(
    line: int,
    text: str | None,
    custom_id: str | None,
    label: str | None,
    *,
    label_required: bool,
    asked: Mapping[str, msgspec.Raw] | None = None,
    cells: list[Any] | None = None,
    text_place: int = 0,
) -> NewRow:
    """``line`` is the line or record, from 1. An empty id counts as none: people export it so. ``asked``: the row's own settings of a
    generation, as they came; with ``messages`` among them it needs no text. ``cells``: of its table, kept but for its text, which stands at
    ``text_place``; of a row that gets no body with it."""
    custom_id = custom_id or None
    if (code := _defect(text, custom_id, label, asked, label_required=label_required)) is not None:
        if cells is not None:
            cells[text_place] = text
        return defective_row(line, code, fit_id(custom_id), columns=None if cells is None else _encode(cells))
    columns = None
    if cells is not None:
        cells[text_place] = None
        columns = _encode(cells)
    if asked:
        told = {"input": text, "label": label or None}
        body = _encode({**{name: value for name, value in told.items() if value is not None}, **asked})
        return NewRow(line=line, endpoint=None, defect=None, custom_id=custom_id, body=body, size=len(body.decode()), columns=columns)
    body = _encode(PlainBody(text or "", label or None))
    return NewRow(line=line, endpoint=None, defect=None, custom_id=custom_id, body=body, size=len(text or ""), columns=columns)


def _defect(
    text: str | None, custom_id: str | None, label: str | None, asked: Mapping[str, msgspec.Raw] | None, *, label_required: bool
) -> str | None:
    if custom_id is not None and not is_custom_id(custom_id):
        return "invalid_custom_id"
    if text is None and not (asked and "messages" in asked):
        return "missing_input"
    if text is not None and "\x00" in text:
        return "nul_character:input"
    return "missing_label" if label_required and not label else None


def defective_row(line: int, code: str, custom_id: str | None = None, raw: bytes | None = None, columns: bytes | None = None) -> NewRow:
    """``raw``: the line as it came, so that its owner can fetch and mend it. ``columns``: its cells, where they could be read."""
    return NewRow(line=line, endpoint=None, defect=code, custom_id=custom_id, body=raw, size=0, columns=columns)


def fit_id(custom_id: str | None) -> str | None:
    """Of a row that has failed for another reason: its id, where it is one."""
    return custom_id if custom_id is not None and is_custom_id(custom_id) else None


def is_custom_id(value: str) -> bool:
    return 0 < len(value) <= MAX_ID_CHARS and "\x00" not in value
