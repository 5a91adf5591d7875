"""Whether a schema can be met by something that ends: ``{"next": <the same again>}`` cannot. Pure."""

from typing import Any, Final

from workers.grammars.schemas import Schema, target, within

_ANY_OF: Final = ("anyOf", "oneOf")


def ends(schema: Schema) -> bool:
    """The least fixed point over its references: one ends where what it names does without it."""
    refs = {one["$ref"] for one in within(schema) if "$ref" in one}
    ended: set[str] = set()
    while more := {ref for ref in refs - ended if _ends(target(schema, ref), ended)}:
        ended |= more
    return _ends(schema, ended)


def _ends(node: Schema | bool | None, ended: set[str]) -> bool:
    """Of one whose keywords have what belongs there."""
    if node is None or isinstance(node, bool):
        return True
    if "$ref" in node and node["$ref"] not in ended:
        return False
    if any(name in node and not any(_ends(each, ended) for each in node[name]) for name in _ANY_OF):
        return False
    needed: list[Any] = list(node.get("allOf", ()))
    if _is_only(node, "object"):
        needed += [node.get("properties", {}).get(name) for name in node.get("required", ())]
    if _is_only(node, "array") and not isinstance(node.get("items"), list):
        least, first = node.get("minItems", 0), node.get("prefixItems", [])
        needed += [*first[:least], *([node.get("items")] if least > len(first) else [])]
    return all(_ends(each, ended) for each in needed)


def _is_only(node: Schema, kind: str) -> bool:
    """Whether nothing else than this can meet it. Without a type an object's keywords do not bind a number."""
    return node.get("type") in (kind, [kind])
