import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.content.cells import Row, number_of, text_of
from workers.content.filling import MAX_ANSWER_CHARS, Unanswered, Written
from workers.content.rules import Rules
from workers.content.yaml_tree import Fault

SECRET = "Klara-Geheim"


def decided(source: str, text: str = "", **cells: Any) -> Written:
    return Rules(source).decide(Row(cells, text))


def holds(condition: str, text: str = "", **cells: Any) -> bool:
    return decided(f"rules: [{{when: {condition}, label: yes}}]\ndefault: {{label: no}}", text, **cells).text == "yes"


def told(source: str) -> str:
    with pytest.raises(Fault) as fault:
        Rules(source)
    return str(fault.value)


@pytest.mark.parametrize(
    ("condition", "cells", "expected"),
    [
        ("{column: a, equals: no}", {"a": "no"}, True),
        ("{column: a, equals: no}", {"a": "NO"}, False),
        ("{column: a, equals: no, ignore_case: true}", {"a": "NO"}, True),
        ("{column: a, equals: 3}", {"a": 3.0}, True),
        ("{column: a, equals: 3}", {"a": "3.0"}, False),
        ("{column: a, equals: true}", {"a": True}, True),
        ("{column: a, equals: ''}", {}, True),
        ("{column: a, in: [x, y]}", {"a": "y"}, True),
        ("{column: a, in: [x, y]}", {"a": "z"}, False),
        ("{column: a, contains: ell}", {"a": "hello"}, True),
        ("{column: a, contains: [zz, ELL], ignore_case: true}", {"a": "hello"}, True),
        ("{column: a, regex: '^h.l+o$'}", {"a": "hello"}, True),
        ("{column: a, regex: 'H', ignore_case: true}", {"a": "hello"}, True),
        ("{column: a, regex: '12'}", {"a": 5123}, True),
        ("{column: a, above: 10}", {"a": "10.5"}, True),
        ("{column: a, above: 10}", {"a": 10}, False),
        ("{column: a, at_least: 10, below: 20}", {"a": " 10 "}, True),
        ("{column: a, at_least: 10, below: 20}", {"a": "20"}, False),
        ("{column: a, at_most: -1}", {"a": "-1"}, True),
        ("{column: a, above: 0}", {"a": "1,200"}, False),
        ("{column: a, above: 0}", {"a": "inf"}, False),
        ("{column: a, above: 0}", {"a": True}, False),
        ("{column: a, below: 5}", {"a": ""}, False),
        ("{column: a, below: 5}", {}, False),
        ("{column: a, empty: true}", {"a": " \t"}, True),
        ("{column: a, empty: true}", {"a": 0}, False),
        ("{column: a, empty: false}", {"a": None}, False),
        ("{not: {column: a, equals: x}}", {}, True),
        ("{any: [{column: a, equals: x}, {column: b, equals: y}]}", {"b": "y"}, True),
        ("{all: [{column: a, equals: x}, {column: b, equals: y}]}", {"b": "y"}, False),
        ("[{column: a, equals: x}, {column: b, equals: y}]", {"a": "x", "b": "y"}, True),
        ("{column: Größe in cm, above: 1}", {"Größe in cm": "2"}, True),
        ("{column: self, equals: x}", {"self": "x"}, True),
    ],
)
def test_a_condition_holds_for_what_it_says(condition: str, cells: dict[str, Any], expected: bool) -> None:
    source = f"rules: [{{when: {condition}, label: yes}}]\ndefault: {{label: no}}"
    assert Rules(source).decide(Row(cells)).text == ("yes" if expected else "no")


def test_without_a_column_a_condition_is_about_the_text() -> None:
    assert holds("{contains: refund}", "my refund")
    assert Rules("rules: [{when: {contains: a}, label: x}]").columns == frozenset()


def test_the_first_rule_that_holds_decides_higher_priorities_first() -> None:
    source = """
rules:
  - {when: {column: a, equals: x}, label: first}
  - {when: {column: a, equals: x}, label: second, priority: 5, name: urgent}
  - {when: {column: a, equals: x}, label: third, priority: 5}
"""
    assert decided(source, a="x") == ("second", "urgent")
    assert decided(source.replace("priority: 5", "priority: 0"), a="x") == ("first", "#1")


def test_an_answer_is_a_label_a_text_with_slots_or_what_a_column_says() -> None:
    assert decided("rules: [{when: {contains: ''}, label: '{a}'}]", a="x").text == "{a}"
    assert decided("rules: [{when: {contains: ''}, text: '{a} {{b}} {}'}]", "t", a=5).text == "5 {b} t"
    assert decided("rules: [{when: {contains: ''}, from_column: a b}]", **{"a b": "x"}).text == "x"


def test_where_no_rule_holds_the_default_does_and_without_one_the_row_has_no_answer() -> None:
    source = "rules: [{when: {column: a, equals: x}, label: yes}]"
    assert decided(source + "\ndefault: {text: 'it is {a}'}", a="y") == ("it is y", "default")
    with pytest.raises(Unanswered) as none:
        decided(source, a="y")
    assert none.value.code == "no_rule"


@pytest.mark.parametrize(
    ("cell", "code"), [(" ", "empty_answer"), (None, "empty_answer"), ("x" * (MAX_ANSWER_CHARS + 1), "answer_too_long")]
)
def test_an_answer_says_something_and_is_bounded(cell: str | None, code: str) -> None:
    for answer in ("from_column: a", "text: '{a}{a}'"):
        with pytest.raises(Unanswered) as none:
            decided(f"rules: [{{when: {{contains: ''}}, {answer}}}]", a=cell)
        assert none.value.code == code


def test_all_columns_that_a_file_names_are_known() -> None:
    source = """
rules:
  - {when: {not: {any: [{column: a, equals: x}]}}, text: "{b} {upper: c}"}
  - {when: {contains: x}, from_column: d}
default: {text: "{e}"}
"""
    assert Rules(source).columns == set("abcde")


def test_rules_whose_tests_fail_are_refused_by_number_and_line_and_not_by_content() -> None:
    source = f"""
rules: [{{when: {{column: a, equals: {SECRET}}}, label: {SECRET}}}]
tests:
  - {{row: {{a: {SECRET}}}, answer: {SECRET}}}
  - {{row: {{a: {SECRET}}}, answer: other}}
  - {{row: {{a: other}}, answer: {SECRET}}}
"""
    assert told(source) == "2 of its 3 tests fail: 2 (line 5: another answer), 3 (line 6: no rule holds)."
    with pytest.raises(Fault) as fault:
        Rules(source)
    assert fault.value.__context__ is None or SECRET not in repr(fault.value.__context__)


def test_a_worker_does_not_hold_the_tests_again() -> None:
    source = "rules: [{when: {contains: a}, label: b}]\ntests: [{text: a, answer: c}]"
    assert "tests fail" in told(source)
    assert Rules(source, tested=True).test_count == 0


def test_a_test_may_expect_a_rule() -> None:
    source = "rules: [{when: {contains: a}, label: x, name: one}, {when: {contains: b}, label: x}]\ntests: [{text: b, rule: %s}]"
    assert Rules(source % "'#2'").test_count == 1
    assert "another rule holds" in told(source % "one")
    assert "there is none of" in told(source % "two")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("rules: []", "there are no rules"),
        ("default: {label: x}", "no `rules`"),
        ("rules: [{label: x}]", "says when it holds"),
        ("rules: [{when: {column: a}, label: x}]", "a condition has one of"),
        ("rules: [{when: {column: a, equals: b, all: []}, label: x}]", "not two of these"),
        ("rules: [{when: [], label: x}]", "list of conditions is empty"),
        ("rules: [{when: {column: a, above: ten}, label: x}]", "a number in digits"),
        ("rules: [{when: {column: a, empty: maybe}, label: x}]", "true or false"),
        ("rules: [{when: {contains: []}, label: x}]", "is empty"),
        ("rules: [{when: {contains: a}}]", "an answer is one of"),
        ("rules: [{when: {contains: a}, label: x, text: y}]", "an answer is one of"),
        ("rules: [{when: {contains: a}, text: '{a'}]", "a brace"),
        ("rules: [{when: {contains: a}, text: '{x|y}'}]", "are a template's"),
        ("rules: [{when: {contains: a}, label: x, priority: high}]", "whole number"),
        ("rules: [{when: {contains: a}, label: x, name: '#1'}]", "a rule's name"),
        ("rules: [{when: {contains: a}, label: x, name: n}, {when: {contains: a}, label: x, name: n}]", "one name"),
        ("rules: [{when: {contains: a}, label: x}]\ntests: [{text: a}]", "expected"),
    ],
)
def test_a_file_that_means_nothing_is_refused_in_a_sentence(source: str, sentence: str) -> None:
    assert sentence in told(source)


@pytest.mark.parametrize("pattern", [f"({SECRET}", f"(?={SECRET})", r"(a)\1", "(a{500}){500}"])
def test_an_expression_that_could_explode_is_refused_in_silence(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert "that RE2 takes" in told(f"rules: [{{when: {{regex: '{pattern}'}}, label: x}}]")
    assert SECRET not in "".join(capfd.readouterr())


def test_an_expression_takes_time_by_the_length_of_the_text_alone() -> None:
    began = time.process_time()
    assert not holds("{regex: '(a+)+$'}", "a" * 100_000 + "b")
    assert time.process_time() - began < 5  # backtracking would not end in years


def test_a_regular_expression_weighs_what_it_may_take_for_a_character() -> None:
    made = Rules("rules: [{when: {column: a, regex: '[ab]*a[ab]{900}c'}, label: x}]\ndefault: {label: y}")
    assert made.decide(Row({"a": "ab" * 1_000})).text == "y"
    with pytest.raises(Unanswered) as none:
        made.decide(Row({"a": "ab" * 500_000}))
    assert none.value.code == "row_too_long"
    assert "more than 1,000" in told("rules: [{when: {column: a, regex: 'a{900}b{900}'}, label: x}]")


def test_ten_thousand_rules_are_read_and_decide() -> None:
    rules = "\n".join(f"  - {{when: {{column: sku, equals: s{number}}}, label: l{number}}}" for number in range(10_000))
    made = Rules(f"rules:\n{rules}")
    assert made.decide(Row({"sku": "s9999"})) == ("l9999", "#10000")
    assert "more than 10,000 rules" in told(f"rules:\n{rules}\n  - {{when: {{contains: a}}, label: x}}")


def test_neither_tests_nor_rows_are_held_against_more_than_some_seconds_of_conditions() -> None:
    parts = ", ".join(f"p{number}" for number in range(50_000))
    source = f"rules: [{{when: {{column: a, contains: [{parts}]}}, label: x}}]\ndefault: {{label: y}}"
    made = Rules(source)
    assert made.decide(Row({"a": "z"})).text == "y"
    with pytest.raises(Unanswered) as none:
        made.decide(Row({"a": "z" * 50_000}))
    assert none.value.code == "row_too_long"
    tests = "\n".join(f"  - {{row: {{a: {number}}}, answer: y}}" for number in range(1_000))
    assert "more tests, or longer ones" in told(f"{source}\ntests:\n{tests}")


@given(st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_and_its_text_are_one_number(number: float) -> None:
    assert number_of(text_of(number)) == number_of(number) == number


@given(st.dictionaries(st.sampled_from("abc"), st.none() | st.text() | st.integers() | st.booleans() | st.lists(st.text())), st.text())
def test_no_cell_breaks_a_rule(cells: dict[str, Any], text: str) -> None:
    made = Rules(
        "rules: [{when: {all: [{column: a, contains: x}, {column: b, above: 1}, {column: c, in: [a, b]}]}, text: '{a}{b}{c}'},"
        " {when: {column: a, empty: true}, from_column: b}]\ndefault: {label: x}"
    )
    with suppress(Unanswered):
        assert made.decide(Row(cells, text)).text
