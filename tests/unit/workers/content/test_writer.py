from collections import Counter
from typing import Any

import pytest

from workers.content.cells import Row
from workers.content.filling import MAX_ANSWER_CHARS, Unanswered
from workers.content.writer import TemplateWriter
from workers.content.yaml_tree import Fault


def written(source: str, text: str = "", *, seed: int = 0, number: int = 0, **cells: Any) -> str:
    return TemplateWriter(source).write(Row(cells, text), seed=seed, number=number).text


def told(source: str) -> str:
    with pytest.raises(Fault) as fault:
        TemplateWriter(source)
    return str(fault.value)


def code_of(source: str, **cells: Any) -> str:
    with pytest.raises(Unanswered) as none:
        written(source, **cells)
    return none.value.code


def test_slots_are_filled_from_columns_the_text_and_words() -> None:
    assert written("text: '{a}, {Größe in cm} {{x}} {}: {plural: ''box'', a}'", "t", a=2, **{"Größe in cm": "3"}) == "2, 3 {x} t: boxes"


@pytest.mark.parametrize(
    ("slot", "cell", "expected"),
    [
        ("upper: a", "ab", "AB"),
        ("lower: a", "AB", "ab"),
        ("capital: a", "éa b", "Éa b"),
        ("plural: a", "city", "cities"),
        ("plural: a, n", "city", "cities"),
        ("plural: a, one", "city", "city"),
        ("a: a", "hour", "an hour"),
        ("a: a", "European car", "a European car"),
        ("ordinal: a", "22", "22nd"),
        ("words: a", 42, "forty-two"),
        ("words: a", "many", "many"),
        ("plural: a", "!!", "!!"),
        ("ordinal: a", "9" * 50, "9" * 50),
        ("plural: a", "x" * 5000, "x" * 5000),
    ],
)
def test_a_value_is_inflected_where_it_can_be(slot: str, cell: object, expected: str) -> None:
    assert written(f'text: "{{{slot}}}"', a=cell, n=2, one="1") == expected


def test_the_same_row_and_seed_give_the_same_text_and_others_give_variety() -> None:
    source = "text: ['{@p} {c|d|e}', 'z {c|d|e}']\nparts: {p: [a, b]}"
    texts = [written(source, seed=1, number=number) for number in range(50)]
    assert texts == [written(source, seed=1, number=number) for number in range(50)]
    assert texts != [written(source, seed=2, number=number) for number in range(50)]
    assert len(set(texts)) == 9


def test_variants_come_by_their_weight() -> None:
    made = TemplateWriter("text: [{text: a, weight: 3}, b]")
    counts = Counter(made.write(Row({}), number=number).text for number in range(4000))
    assert 2.5 < counts["a"] / counts["b"] < 3.6


def test_a_variant_is_written_where_its_condition_holds() -> None:
    source = """
text: "{@greeting}{@stock} Ours."
parts:
  greeting: [{text: Hallo., when: {column: lang, equals: de}}, {text: Hello., when: {not: {column: lang, equals: de}}}]
  stock: {text: " Only {n} left.", when: {column: n, below: 5}}
"""
    assert written(source, lang="de", n="3") == "Hallo. Only 3 left. Ours."
    assert written(source, lang="en", n=7) == "Hello. Ours."


def test_which_variant_of_the_text_was_written_is_told() -> None:
    made = TemplateWriter("text: [{text: a, when: {column: x, equals: y}}, b]")
    assert made.write(Row({})) == ("b", "#2")


def test_what_is_left_out_or_empty_leaves_no_second_space() -> None:
    source = "text: 'A {a} b {@p} c {@p}'\nparts: {p: {text: x, when: {column: a, equals: y}}}"
    assert written(source) == "A b c"
    assert written(source, a="y") == "A y b x c x"
    assert written("text: 'A  {a}'", a="x  y") == "A  x  y"


def test_a_row_for_which_there_is_nothing_to_write_has_a_code() -> None:
    assert code_of("text: [{text: a, when: {column: a, equals: x}}]") == "no_variant"
    assert code_of("text: '{a}'", a="  ") == "empty_answer"
    assert code_of("text: '{a}{a}'", a="x" * MAX_ANSWER_CHARS) == "answer_too_long"


def test_all_columns_are_known_those_of_unused_parts_too() -> None:
    source = "text: [{text: '{a}', when: {column: b, empty: true}}]\nparts: {p: '{plural: c, d} {e|f}'}"
    assert TemplateWriter(source).columns == set("abcd")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("parts: {}", "no `text`"),
        ("text: []", "the text is empty"),
        ("text: x\nparts: {a: []}", "a part is empty"),
        ("text: '{@b}'\nparts: {a: x}", "names a part"),
        ("text: '{@a}'\nparts: {a: '{@b}', b: '{@a}'}", "made of itself"),
        ("text: {weight: 1}", "has a `text`"),
        ("text: {text: a, weight: 0}", "a weight is"),
        ("text: {text: a, weight: -1}", "a weight is"),
        ("text: '}'", "a brace"),
        ("text: '{plural: a,}'", "plural without"),
        ("text: {text: a, wenn: x}", "no such field"),
    ],
)
def test_a_template_that_means_nothing_is_refused_in_a_sentence(source: str, sentence: str) -> None:
    assert sentence in told(source)


def test_parts_that_fill_parts_do_not_explode() -> None:
    parts = {f"p{level}": "'" + f"{{@p{level + 1}}}" * 20 + "'" for level in range(6)}
    source = "text: '{@p0}'\nparts:\n" + "".join(f"  {name}: {part}\n" for name, part in parts.items()) + "  p6: '{a}'"
    assert "fills more than 10,000 slots" in told(source)
    variants = ", ".join(["{text: x, when: {contains: a}}"] * 500)
    assert "or asks so many conditions" in told("text: '" + "{@p}" * 25 + f"'\nparts: {{p: [{variants}]}}")


def test_no_row_is_held_against_more_than_some_seconds_of_conditions() -> None:
    words = ", ".join(f"p{number}" for number in range(9_000))
    source = f"text: [{{text: one, when: {{column: a, contains: [{words}]}}}}, {{text: other, when: {{column: a, empty: false}}}}]"
    assert written(source, a="z") == "other"
    assert code_of(source, a="z" * 300_000) == "row_too_long"
    assert written("text: '{a}'", a="z" * 9_000) == "z" * 9_000
