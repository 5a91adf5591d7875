"""What an answer can be held to, and what is refused, in words of ours."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.failures import FAILURES, describe, parts_of
from workers.grammars.compiling import MAX_CHOICES, MAX_SOURCE_CHARS, TOO_COMPLEX, TOO_LARGE, UNMEETABLE, compiled, fault, meets
from workers.grammars.grammar import Grammar, Kind

SECRET = "zebra_quartz_canary"
ENDLESS = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}}}


def reason(kind: Kind, source: Any) -> str | None:
    stored = fault(Grammar(kind, source, "response_format"))
    if stored is None:
        return None
    code, field, detail = parts_of(stored)
    assert (code, field) == ("invalid_grammar", "response_format")
    assert code in FAILURES
    assert describe(stored).message == f"No answer can be held to what the field `response_format` asks for: {detail}."
    return detail


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "array"},
        {"type": ["string", "null"]},
        {"enum": ["a", 1, None]},
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]},
        {"type": "number", "minimum": 0.0000001, "maximum": 0.0000002},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "password"},
        {"type": "string", "pattern": "^[A-Z]{3}[0-9]{3}$"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}], "$defs": {k: {"properties": {k: {"type": "null"}}} for k in "ab"}},
        json.dumps({"type": "string"}),
        {**ENDLESS, "$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/n"}}]}}},
    ],
)
def test_a_schema_that_can_be_met_is_taken(schema: Any) -> None:
    assert reason("json", schema) is None


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, UNMEETABLE),
        ({"enum": []}, UNMEETABLE),
        ({"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]}, UNMEETABLE),
        (ENDLESS, UNMEETABLE),
        ({"$ref": "#"}, UNMEETABLE),
        ({"type": "array", "minItems": 2, "items": {"$ref": "#"}}, UNMEETABLE),
        ({"type": "array", "minItems": 1, "prefixItems": [{"$ref": "#"}]}, UNMEETABLE),
        ({"anyOf": [{"$ref": "#"}, ENDLESS["$defs"]["n"]], "$defs": ENDLESS["$defs"]}, UNMEETABLE),
        ({"enum": ["x" * MAX_SOURCE_CHARS]}, TOO_LARGE),
        (nested(70), TOO_LARGE),
        (nested(5_000), TOO_LARGE),
        ("[" * 100_000, TOO_LARGE),
        ({"type": "string", "pattern": "^(a{1000}){1000}$"}, TOO_COMPLEX),
        ({"properties": {f"k{n}": {"type": "string"} for n in range(1_500)}, "type": "object"}, TOO_COMPLEX),
        ({"type": "string", "pattern": "(?=a)b"}, "its pattern looks around (`(?=`, `(?!`, `(?<`), which is not done here"),
        ({"type": "string", "not": {"const": SECRET}}, "it uses `not`, which is not done here"),
        ({"type": "array", "uniqueItems": True}, "it uses `uniqueItems`, which is not done here"),
        ({"type": "string", "not": {}, "x-guidance": {"lenient": True}}, "it uses `not`, which is not done here"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "the choices of a `oneOf` overlap: write `anyOf`"),
        ({"$ref": f"#/$defs/{SECRET}"}, "a `$ref` names nothing in it"),
        ({"$ref": f"http://{SECRET}/"}, "a `$ref` names nothing in it"),
        ({"type": SECRET}, "its `type` has what does not belong there"),
        ({"type": "string", "pattern": {"é" * 99: SECRET}}, "its `pattern` has what does not belong there"),
        ({"$ref": {"é" * 99: SECRET}}, "its `$ref` has what does not belong there"),
        ({"$ref": "#/default", "default": {"pattern": {"é" * 99: SECRET}}}, "a `$ref` names nothing in it"),
        ({"const": float("nan")}, "it holds a number that is none"),
        ("{", "it cannot be read"),
        ("[1]", "it must be an object"),
    ],
)
def test_a_schema_that_cannot_is_refused_with_the_reason(schema: Any, why: str) -> None:
    assert reason("json", schema) == why


@pytest.mark.parametrize(
    ("kind", "source", "why"),
    [
        ("regex", "a+", None),
        ("regex", "^a+$", None),
        ("regex", r"\$[0-9]+\.[0-9]{2}", None),
        ("regex", "(x+x+)+y", None),
        ("regex", "(a{1000}){1000}", TOO_COMPLEX),
        ("regex", "a" * (MAX_SOURCE_CHARS + 1), TOO_LARGE),
        ("regex", r"(a)\1", "its pattern refers back, which is not done here"),
        ("regex", "(", "it cannot be read"),
        ("choice", ["yes", 'a "no"', "né"], None),
        ("choice", [], UNMEETABLE),
        ("choice", [f"choice {n}" for n in range(MAX_CHOICES + 1)], TOO_LARGE),
        ("grammar", 'root ::= "a" | "b" root', None),
        ("grammar", 'start: "a" | "b" start', None),
        ("grammar", "start: start", UNMEETABLE),
        ("grammar", 'start: "a" start', TOO_COMPLEX),
        ("grammar", f"((( {SECRET}", "it cannot be read"),
    ],
)
def test_so_is_a_pattern_a_choice_or_a_grammar(kind: Kind, source: Any, why: str | None) -> None:
    assert reason(kind, source) == why


@pytest.mark.parametrize(
    ("kind", "source", "text", "does"),
    [
        ("json", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, '{"a": 5, "b": 1e99}', True),
        ("json", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, '{"a": 5', False),
        ("json", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, '{"a": "5"}', False),
        ("json", {"type": "object"}, '{"b": [1, {"c": null}]}', True),
        ("json", {"type": "object"}, "[]", False),
        ("choice", ["né", "oui"], "né", True),
        ("choice", ["né", "oui"], "n", False),
        ("regex", "^[0-9]{3}$", "123", True),
        ("regex", "[0-9]{3}", "1234", False),
        ("regex", "[0-9]{3}", "", False),
    ],
)
def test_an_answer_is_held_to_what_was_asked_for(kind: Kind, source: Any, text: str, does: bool) -> None:
    assert meets(Grammar(kind, source, "response_format"), text) is does


def test_a_dollar_that_is_meant_stays_in_a_pattern() -> None:
    assert meets(Grammar("regex", r"[0-9]+\$", "guided_regex"), "12$")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "anyOf", "$ref", "required", "enum", "minItems", "maximum", "pattern", "allOf"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "items", "anyOf", "$ref", "minLength", "required"]), json_values, max_size=5))
def test_no_schema_makes_it_raise_anything_else(schema: dict[str, Any]) -> None:
    reason("json", schema)


@given(st.text(max_size=30))
def test_no_pattern_does(pattern: str) -> None:
    reason("regex", pattern)
    reason("grammar", pattern)


def test_rows_with_the_jobs_schema_share_what_is_made_of_it() -> None:
    schema = {"type": "object"}
    assert Grammar("json", schema, "response_format").key == Grammar("json", schema, "response_format").key
    assert Grammar("json", dict(schema), "response_format").key != Grammar("json", schema, "response_format").key


def test_what_generates_is_narrower_than_what_is_asked_for() -> None:
    assert compiled(Grammar("json", {"type": "integer"}, "a")) != compiled(Grammar("json", {"type": "integer"}, "a"), strictly=False)


@pytest.mark.parametrize("source", ['{"enum":["\\ud800"]}', '{"type":"string","description":"\\ud800"}', "{", "[]"])
def test_a_schema_as_text_that_is_none_is_refused_without_its_words(source: str) -> None:
    code = fault(Grammar("json", source, "guided_json"))
    assert code is not None
    assert code.startswith("invalid_grammar:guided_json:it ")


def test_an_answer_is_held_to_the_bounds_where_they_alone_keep_the_choices_apart() -> None:
    one, other = ({"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]} for name in "ab")
    grammar = Grammar("json", {"oneOf": [one, other]}, "response_format")
    assert fault(grammar) is None
    assert meets(grammar, '{"a":1}')
    assert not meets(grammar, '{"a":1,"b":2}')
