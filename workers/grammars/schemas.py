"""A JSON schema as a tree of schemas, and whether each keyword has what belongs there. Pure.

Shapes are checked here and not left to llguidance: what it says of a wrong one quotes it, and with signs beyond ASCII it panics over that.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]
# Keywords whose value is a schema, a list of them, or schemas by name.
_ONE: Final = frozenset({"items", "additionalProperties", "additionalItems"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_NAMED: Final = frozenset({"properties", "patternProperties", "$defs", "definitions"})

_COUNTS: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_NUMBERS: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_TEXTS: Final = frozenset({"pattern", "format", "$ref"})
_REF: Final = re.compile(
    r"#(?:/(?:\$defs|definitions|properties|patternProperties)/[^/]+|/(?:items|additionalProperties)|/(?:anyOf|oneOf|allOf|prefixItems|items)/\d+)*"
)


def changed(schema: Schema, change: Callable[[Schema], dict[str, Any]], leave: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A new one, with each schema right within it changed, but for those under the keywords to ``leave``."""
    return {name: value if name in leave else _changed(name, value, change) for name, value in schema.items()}


def _changed(name: str, value: Any, change: Callable[[Schema], dict[str, Any]]) -> Any:
    if name in _ONE and isinstance(value, Mapping):
        return change(value)
    if name in _LISTS and isinstance(value, list):
        return [change(one) if isinstance(one, Mapping) else one for one in value]
    if name in _NAMED and isinstance(value, Mapping):
        return {key: change(one) if isinstance(one, Mapping) else one for key, one in value.items()}
    return value


def within(schema: Schema) -> Iterator[Schema]:
    """It, and every schema in it."""
    left = [schema]
    while left:
        one = left.pop()
        yield one
        for name, value in one.items():
            if name in _NAMED and isinstance(value, Mapping):
                value = list(value.values())
            if name in _ONE | _LISTS | _NAMED:
                left += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping)]


def misshapen(schema: Schema) -> str | None:
    """A keyword, somewhere in it, that has what does not belong there."""
    return next((name for one in within(schema) for name, value in one.items() if not _fits(name, value)), None)


def _fits(name: str, value: Any) -> bool:
    if name == "type":
        return isinstance(value, str) or (isinstance(value, list) and _are_texts(value))
    if name == "required":
        return isinstance(value, list) and _are_texts(value)
    if name in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    if name in _NUMBERS:
        return isinstance(value, int | float) and (not isinstance(value, bool) or name.startswith("exclusive"))
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _NAMED:
        return isinstance(value, Mapping) and all(map(_is_schema, value.values()))
    if name == "items" and isinstance(value, list):
        return all(map(_is_schema, value))
    if name in _ONE:
        return _is_schema(value)
    if name in _LISTS:
        return isinstance(value, list) and all(map(_is_schema, value))
    return name != "enum" or isinstance(value, list)


def _is_schema(value: object) -> bool:
    return isinstance(value, Mapping | bool)


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def target(schema: Schema, ref: str) -> Schema | bool | None:
    """What a reference names within the whole schema; None where that is no schema of it."""
    if not _REF.fullmatch(ref):
        return None
    node: Any = schema
    for step in ref.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        else:
            return None
    return node if isinstance(node, Mapping | bool) else None


def lost_refs(schema: Schema) -> bool:
    """Whether some reference names nothing in it."""
    return any(target(schema, one["$ref"]) is None for one in within(schema) if "$ref" in one)
