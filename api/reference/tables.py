"""Tables in Markdown, and how a type reads."""

import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from msgspec import Meta

_WORDS: Final[dict[object, str]] = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", object: "any"}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def type_words(kind: Any) -> str:
    """`list of text`, `number, 0 to 2`, `"a" or "b"`. That a field may be null is not said: it is the same as leaving it out."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return type_words(arguments[0]) + "".join(_bounds(each) for each in arguments[1:])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_words(each) for each in arguments if each is not types.NoneType)
    if origin is list:
        return f"list of {type_words(arguments[0])}"
    if origin is tuple:
        return "names with commas"
    if origin is dict:
        return "object"
    return _WORDS.get(kind, "object")


def description(kind: Any) -> str:
    """Of an annotated type, wherever in it that stands; empty where it says nothing."""
    own = [each.description for each in getattr(kind, "__metadata__", ()) if isinstance(each, Meta) and each.description]
    return str(own[-1]) if own else next((told for each in get_args(kind) if (told := description(each))), "")


def shown(value: object) -> str:
    """A default."""
    if value is None or value == "" or value == ():
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def limits(least: float | None, most: float | None, *, open_below: bool = False) -> str:
    """`1 to 64`, `at least 1`, `above 0`, or nothing."""
    if least is not None and most is not None:
        return f"{_number(least)} to {_number(most)}" if not open_below else f"above {_number(least)}, at most {_number(most)}"
    if least is not None:
        return f"{'above' if open_below else 'at least'} {_number(least)}"
    return "" if most is None else f"at most {_number(most)}"


def bounds_of(metadata: Iterable[object]) -> str:
    """Of pydantic's and FastAPI's fields."""
    least: Any = None
    most: Any = None
    open_below = False
    for each in metadata:
        if isinstance(each, annotated_types.Gt):
            least, open_below = each.gt, True
        elif isinstance(each, annotated_types.Ge):
            least = each.ge
        elif isinstance(each, annotated_types.Le):
            most = each.le
    return limits(least, most, open_below=open_below)


def _bounds(meta: object) -> str:
    if not isinstance(meta, Meta):
        return ""
    told = limits(meta.ge if meta.gt is None else meta.gt, meta.le, open_below=meta.gt is not None)
    if told and abs(meta.le or 0) > 2**53:
        told = "of 64 bits"
    length = limits(meta.min_length, meta.max_length)
    return (f", {told}" if told else "") + (f", length {length}" if length else "")


def _number(value: float) -> str:
    return f"{value:,.15g}"
