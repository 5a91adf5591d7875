"""What a file's first two lines tell that is meant as JSON lines and is something else: told once, with the command that converts it."""

import json
from typing import Final

import msgspec

from api.errors import Refused
from api.formats.lines import LongLine

_OPEN_ENDS: Final = (b"{", b"[", b":")  # of a line with which no object can end
_DECODER: Final = json.JSONDecoder()
MAX_LOOKED_AT_BYTES: Final = 1 << 20  # of a line: what is parsed here is held in full


def check_beginning(first: bytes, second: bytes | None) -> None:
    """Of lines without the spaces around them; ``second`` None where there is none. Raises Refused. A first line that
    is merely broken is left to fail alone."""
    if first.startswith(b"["):
        message = "The file is a JSON array, not JSON lines: `jq -c '.[]' FILE > FILE.jsonl` makes a line of each of its objects."
        raise Refused("json_array", message, param="file")
    if isinstance(first, LongLine):
        return
    if not first.startswith(b"{"):
        if second is not None and not second.startswith(b"{"):
            message = "The file is not JSON lines: its first lines are no objects. Set the form field format to what it is, `csv` or `txt`."
            raise Refused("not_json_lines", message, param="file")
        return
    if first.startswith(b"{'"):
        message = "The file's objects are as Python prints them, in single quotes. JSON has double ones: `json.dumps` makes such lines."
        raise Refused("python_objects", message, param="file")
    if second is None and _is_of_columns(first):
        message = (
            'The file is one object of columns or lists; in pandas, `to_json(FILE, orient="records", lines=True)` writes an object a row.'
        )
        raise Refused("json_columns", message, param="file")
    rest = _behind_object(first)
    if rest == "":
        return
    if rest == ",":
        message = "The file's objects have commas between them, JSON lines have none: `sed 's/,[[:space:]]*$//' FILE > FILE.jsonl`."
        raise Refused("json_commas", message, param="file")
    goes_on = second is not None and not second.startswith(b"{") and _may_go_on(first, second)
    if (rest or "").startswith("{") or (second is not None and first.endswith(_OPEN_ENDS)) or goes_on:
        message = "The file's objects go over several lines, or share one; JSON lines have one object a line: `jq -c . FILE > FILE.jsonl`."
        raise Refused("multiline_json", message, param="file")


def _is_of_columns(line: bytes) -> bool:
    """Whether a file's only object holds nothing but lists and objects; a chat is a list as well."""
    try:
        values = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return bool(values) and "messages" not in values and all(bytes(value)[:1] in (b"[", b"{") for value in values.values())


def _behind_object(line: bytes) -> str | None:
    """What stands behind the first object of a line; None where there is no whole one."""
    if len(line) > MAX_LOOKED_AT_BYTES:
        return None
    try:
        text = line.decode()
        _, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return text[end:].strip()


def _may_go_on(first: bytes, second: bytes) -> bool:
    """Whether two lines look like parts of one object: each is cut where JSON may be."""
    return second.startswith((b'"', b",", b"}", b"]", b"[")) and (first.endswith(b",") or second.startswith((b",", b"}", b"]")))
