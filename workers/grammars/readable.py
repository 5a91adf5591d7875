"""A schema as llguidance reads it: without what holds an answer to nothing, and with alternatives that it need not compare. Pure."""

import json
from collections.abc import Mapping
from typing import Any, Final

from workers.grammars.schemas import Schema, changed, target

# Of the standard's, and uuid. Any other is a hint to readers, as the standard has it.
_FORMATS: Final = frozenset({"date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"})
# Words about a schema, options of llguidance's, which are ours to set, and names by which nothing is looked up here.
_ASIDE: Final = frozenset(
    {"title", "description", "default", "examples", "$comment", "readOnly", "writeOnly", "deprecated", "discriminator"}
    | {"x-guidance", "$id", "id", "$anchor", "$schema"}
)


def readable(schema: Schema) -> dict[str, Any]:
    """A new one that the same answers meet."""

    def change(one: Schema) -> dict[str, Any]:
        made = {name: value for name, value in changed(one, change).items() if name not in _ASIDE}
        if "format" in made and made["format"] not in _FORMATS:
            del made["format"]
        if "oneOf" in made and "anyOf" not in made and _differ(schema, made["oneOf"]):
            made["anyOf"] = made.pop("oneOf")
        return made

    return change(schema)


def _differ(schema: Schema, choices: list[Any]) -> bool:
    """Whether no two choices can be met at once, because each asks for another constant under the same name. llguidance compares no
    references, and that is how pydantic writes a union with a discriminator."""
    constants = [_constants(schema, choice) for choice in choices]
    shared = set.intersection(*map(set, constants)) if constants else set()
    return any(sum(len(one[name]) for one in constants) == len(set().union(*(one[name] for one in constants))) for name in shared)


def _constants(schema: Schema, choice: Any) -> dict[str, set[str]]:
    """By name, which values an object must have one of."""
    if isinstance(choice, Mapping) and isinstance(choice.get("$ref"), str):
        choice = target(schema, choice["$ref"])
    if not isinstance(choice, Mapping) or choice.get("type") != "object":
        return {}
    required, found = choice.get("required", ()), {}
    for name, one in choice.get("properties", {}).items():
        if name in required and isinstance(one, Mapping) and ("const" in one or "enum" in one):
            values = [one["const"]] if "const" in one else one["enum"]
            found[name] = {json.dumps(value, sort_keys=True) for value in values}
    return found
