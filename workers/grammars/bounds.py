"""What keeps an answer under a schema from running on: small models spend their tokens on digits, and on texts that never close. Pure.

A schema that says nothing of it gets bounds: whole numbers of 16 digits, others of 15 and six behind the point and no exponent, texts of
8,192 characters, of an object just the properties that it names, and of what may be anything a few levels. Whatever meets the schema with
its bounds meets it without. What the schema says itself stands.
"""

from typing import Any, Final

from workers.grammars.schemas import Schema, changed

MAX_WHOLE: Final = 2**53 - 1  # what every JSON reader holds exactly
MAX_NUMBER: Final = 10**15
STEP: Final = 1e-06
LEAST_RANGE: Final = 1e-03  # of numbers in a narrower one, six digits behind the point may be too few
MAX_CHARS: Final = 8_192
ANY_KEY: Final = "^.{1,64}$"
ANY_LEVELS: Final = 3

_BINDING: Final = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf", "properties", "items", "prefixItems", "pattern"})
_OPEN: Final = frozenset({"additionalProperties", "unevaluatedProperties", "patternProperties", "anyOf", "oneOf", "allOf", "$ref"})
_CLOSED: Final = frozenset({"enum", "const", "$ref", "allOf"})
# Under `allOf`, which also binds what stands beside it, bounds could contradict each other: there nothing is added.
_LEFT: Final = frozenset({"allOf"})


def bounded(schema: Schema) -> dict[str, Any]:
    """The same with bounds; a new object."""
    made = changed(schema, bounded, _LEFT)
    if _BINDING.isdisjoint(made):
        return {**made, **anything()}
    if not _CLOSED.isdisjoint(made):
        return made
    kinds = made.get("type")
    own = kinds if isinstance(kinds, list) else [kinds]
    if "string" in own and _BINDING.isdisjoint(made.keys() - {"type"}) and not {"maxLength", "format"} & made.keys():
        least = made.get("minLength")
        made["maxLength"] = max(MAX_CHARS, least if isinstance(least, int) else 0)
    if "object" in own and _OPEN.isdisjoint(made):
        made.update({"additionalProperties": False} if "properties" in made else _any_properties(ANY_LEVELS))
    if "array" in own and not {"items", "prefixItems"} & made.keys():
        made["items"] = anything()
    if "number" in own or "integer" in own:
        _bound_numbers(made, whole="number" not in own)
    return made


def anything(levels: int = ANY_LEVELS) -> dict[str, Any]:
    leaves: list[dict[str, Any]] = [{"type": "null"}, {"type": "boolean"}, bounded({"type": "number"}), bounded({"type": "string"})]
    if not levels:
        return {"anyOf": leaves}
    nested = [{"type": "array", "items": anything(levels - 1)}, {"type": "object", **_any_properties(levels - 1)}]
    return {"anyOf": [*leaves, *nested]}


def _any_properties(levels: int) -> dict[str, Any]:
    return {"patternProperties": {ANY_KEY: anything(levels)}, "additionalProperties": False}


def _bound_numbers(schema: dict[str, Any], *, whole: bool) -> None:
    lowest, highest = _bound(schema, "minimum", "exclusiveMinimum"), _bound(schema, "maximum", "exclusiveMaximum")
    most = MAX_WHOLE if whole else MAX_NUMBER
    if lowest is None and (highest is None or highest > -most):
        schema["minimum"] = lowest = -most
    if highest is None and (lowest is None or lowest < most):
        schema["maximum"] = highest = most
    if not whole and "multipleOf" not in schema and lowest is not None and highest is not None and highest - lowest >= LEAST_RANGE:
        schema["multipleOf"] = STEP


def _bound(schema: Schema, *names: str) -> float | None:
    return next((value for name in names if isinstance(value := schema.get(name), int | float) and not isinstance(value, bool)), None)
