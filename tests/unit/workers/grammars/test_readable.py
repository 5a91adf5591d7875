"""What llguidance is spared: words about a schema, and alternatives that cannot both be met."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from workers.grammars.compiling import fault, meets
from workers.grammars.grammar import Grammar
from workers.grammars.readable import readable


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog", "hound"]
    name: str


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    note: str = Field("", description="what is said of it", examples=["nice"])


def test_a_union_with_a_discriminator_is_taken() -> None:
    schema = Owner.model_json_schema()
    assert "oneOf" in json.dumps(schema)
    form = Grammar("json", schema, "response_format")
    assert fault(form) is None
    assert meets(form, '{"pet": {"kind": "hound", "name": "Rex"}}')
    assert not meets(form, '{"pet": {"kind": "cat", "name": "Rex"}}')


@pytest.mark.parametrize(
    ("choices", "differ"),
    [
        ([{"const": 1}, {"const": 2}], True),
        ([{"enum": [1, 2]}, {"enum": [2, 3]}], False),
        ([{"enum": [1, 2]}, {"enum": [3]}, {"const": 4}], True),
        ([{"const": 1}, {"type": "integer"}], False),
    ],
)
def test_choices_differ_where_a_constant_of_one_name_does(choices: list[dict[str, Any]], differ: bool) -> None:
    objects = [{"type": "object", "properties": {"a": one}, "required": ["a"]} for one in choices]
    assert ("anyOf" in readable({"oneOf": objects})) is differ
    optional = [{"type": "object", "properties": {"a": one}} for one in choices]
    assert "oneOf" in readable({"oneOf": optional})


def test_words_about_a_schema_are_left_out_and_names_of_properties_are_not() -> None:
    schema = {"title": "T", "type": "object", "properties": {"title": {"type": "string", "description": "d"}}, "$id": "x", "default": {}}
    assert readable(schema) == {"type": "object", "properties": {"title": {"type": "string"}}}
