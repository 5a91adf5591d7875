"""An answer that is drawn at random under a mask is what was asked for, whatever the schema."""

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from workers.grammars.bounds import MAX_CHARS
from workers.grammars.compiling import END, Unusable, fault, meets
from workers.grammars.grammar import Grammar, Kind
from workers.grammars.masks import GrammarMask, Vocabulary

BYTES = Vocabulary.of_bytes()


def draw(kind: Kind, source: Any, seed: int, most: int = 20_000, vocabulary: Vocabulary = BYTES) -> tuple[str, list[int]]:
    """What random logits say under the mask, to its end. Keeps to short ones: of two tokens the one that ends something is likelier."""
    mask = GrammarMask(vocabulary.matcher(Grammar(kind, source, "response_format")), vocabulary.end_ids)
    chance = random.Random(seed)
    said: list[int] = []
    for _ in range(most):
        bits = np.zeros(-(-vocabulary.size // 32), dtype=np.int32)
        assert mask.fill(bits)
        allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist()
        assert allowed
        closing = [token for token in allowed if token in vocabulary.end_ids or vocabulary.token_bytes(token) in (b'"', b"}", b"]")]
        token = chance.choice(closing if closing and chance.random() < 0.3 else allowed)
        said += [] if token in vocabulary.end_ids else [token]
        if mask.take(token):
            assert not mask.failed
            return b"".join(map(vocabulary.token_bytes, said)).decode(), said
    pytest.fail("it never ends")


names = st.text("abcdef_é", min_size=1, max_size=5)
leaves = st.sampled_from(
    [
        {"type": "null"},
        {"type": "boolean"},
        {"type": "integer"},
        {"type": "number"},
        {"type": "string"},
        {"type": "integer", "minimum": -3, "maximum": 40},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "number", "multipleOf": 0.5},
        {"type": "string", "maxLength": 3},
        {"type": "string", "minLength": 2},
        {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
        {"type": "string", "format": "date"},
        {"type": ["string", "null"]},
        {"enum": ["a", 'quoted "b"', 3, None, [1]]},
        {"const": {"a": 1}},
    ]
)


def compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    objects = st.dictionaries(names, inner, min_size=1, max_size=3).flatmap(
        lambda properties: st.lists(st.sampled_from(sorted(properties)), unique=True).map(
            lambda required: {"type": "object", "properties": properties, "required": required}
        )
    )
    return (
        objects
        | inner.map(lambda one: {"type": "array", "items": one, "minItems": 1, "maxItems": 3})
        | st.lists(inner, min_size=1, max_size=2).map(lambda some: {"anyOf": some})
        | inner.map(lambda one: {"type": "object", "additionalProperties": one, "properties": {"x": {"type": "null"}}})
        | objects.map(lambda one: {"$ref": "#/$defs/a", "$defs": {"a": one}} if "$defs" not in json.dumps(one) else one)
    )


@settings(max_examples=150, deadline=None)
@given(st.recursive(leaves, compound, max_leaves=6), st.integers(0, 2**32))
def test_an_answer_under_a_schema_is_valid(schema: dict[str, Any], seed: int) -> None:
    if "#/$defs/a" in json.dumps(schema):  # of a part, moved to the top
        schema = {**schema, "$defs": {"a": {"type": "string", "maxLength": 2}, **schema.get("$defs", {})}}
    assert fault(Grammar("json", schema, "response_format")) is None
    text, _ = draw("json", schema, seed)
    jsonschema.validate(json.loads(text), schema)
    assert meets(Grammar("json", schema, "response_format"), text)


@pytest.mark.parametrize("seed", range(5))
def test_an_answer_that_may_be_any_object_is_one(seed: int) -> None:
    text, _ = draw("json", {"type": "object"}, seed)
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("regex", "[a-f]{3}(-[0-9]+)?"), ("choice", ["sport", "politics", "né"]), ("grammar", 'root ::= "a" | "b" root')],
)
def test_so_is_one_under_a_pattern_a_choice_or_a_grammar(kind: Kind, source: Any) -> None:
    for seed in range(10):
        assert meets(Grammar(kind, source, "a"), draw(kind, source, seed)[0])


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_digits_come_to_an_end(kind: str) -> None:
    for seed in range(20):
        text, _ = draw("json", {"type": "array", "items": {"type": kind}, "minItems": 5, "maxItems": 5}, seed)
        assert all(len(number) <= 24 for number in text[1:-1].split(","))


def test_a_text_comes_to_an_end_and_nothing_is_spaced() -> None:
    mask = GrammarMask(BYTES.matcher(Grammar("json", {"type": "string"}, "a")), BYTES.end_ids)
    bits = np.zeros(9, dtype=np.int32)
    for token in (ord('"'), *[ord("a")] * MAX_CHARS):
        assert not mask.take(token)
    mask.fill(bits)
    assert np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist() == [ord('"')]
    text, _ = draw("json", {"type": "object", "properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["a", "b"]}, 1)
    assert text == '{"a":1,"b":2}'


def test_a_schema_that_says_how_long_a_text_is_stands() -> None:
    mask = GrammarMask(BYTES.matcher(Grammar("json", {"type": "string", "minLength": MAX_CHARS + 5}, "a")), BYTES.end_ids)
    for token in (ord('"'), *[ord("a")] * (MAX_CHARS + 5)):
        assert not mask.take(token)
    assert mask.take(ord('"'))


def test_an_answer_that_may_end_may_also_go_on() -> None:
    mask = GrammarMask(BYTES.matcher(Grammar("regex", "ab*", "a")), BYTES.end_ids)
    assert not mask.take(ord("a"))
    bits = np.zeros(9, dtype=np.int32)
    mask.fill(bits)
    assert np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist() == [ord("b"), END]
    assert mask.take(END)


def test_tokens_of_a_models_own_vocabulary_are_masked_and_its_end_is_its_own() -> None:
    words = ["<end>", "yes", "no", "maybe", "Ġyes", "ye", "s"]
    tokenizer = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    vocabulary = Vocabulary.of(tokenizer.to_str, 40, [0])  # more logits than tokens, as models pad them
    assert [vocabulary.token_bytes(token) for token in (1, 4)] == [b"yes", b" yes"]
    for seed in range(10):
        text, ids = draw("choice", ["yes", "no"], seed, vocabulary=vocabulary)
        assert text in {"yes", "no"}
        assert set(ids) <= {1, 2, 5, 6}


def test_a_grammar_that_takes_too_much_work_ends_the_answer() -> None:
    matcher = BYTES.matcher(Grammar("regex", "(a{1000}){1000}", "a"))
    mask = GrammarMask(matcher, BYTES.end_ids)
    assert any(mask.take(ord("a")) for _ in range(9))
    assert mask.failed
    mask.fill(bits := np.zeros(9, dtype=np.int32))
    assert np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")).tolist() == [END]


def test_a_tokenizer_that_does_not_say_what_its_tokens_spell_is_refused_in_words() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<end>": 1}, unk_token="a"))
    with pytest.raises(Unusable, match="the tokenizer of this model"):
        Vocabulary.of(words.to_str, 2, [1]).matcher(Grammar("regex", "a", "guided_regex"))
