"""Texts to choose from: which answers meet them."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.grammars.choices import MAX_NESTED, one_of
from workers.grammars.compiling import MAX_CHOICES, MAX_SOURCE_CHARS, fault, meets
from workers.grammars.grammar import Grammar

texts = st.lists(st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from("ab\\.*+?()[]{}|^$-&~#/ \n"), max_size=8), min_size=1)


def of(choices: list[str]) -> Grammar:
    return Grammar("choice", choices, "guided_choice")


@given(texts, st.data())
def test_each_of_them_is_an_answer_and_nothing_else_is(choices: list[str], data: st.DataObject) -> None:
    given_one, other = data.draw(st.sampled_from(choices)), data.draw(st.sampled_from(choices)) + data.draw(st.sampled_from("ab. "))
    assert meets(of(choices), given_one)
    assert meets(of(choices), other) == (other in choices)


def random_words() -> list[str]:
    chance = random.Random(1)
    return ["".join(chance.choices(string.ascii_lowercase, k=MAX_SOURCE_CHARS // MAX_CHOICES)) for _ in range(MAX_CHOICES)]


@pytest.mark.parametrize(
    "choices",
    [
        [f"label {number}" for number in range(MAX_CHOICES)],
        random_words(),
        ["a" * length for length in range(1, 361)],
        ["x" * (MAX_SOURCE_CHARS - 1), "y"],
    ],
    ids=["numbered", "random", "one in another", "one long"],
)
def test_as_many_as_are_documented_are_taken(choices: list[str]) -> None:
    assert len(choices) == MAX_CHOICES or sum(map(len, choices)) > 0.99 * MAX_SOURCE_CHARS
    assert fault(of(choices)) is None
    assert meets(of(choices), choices[-1])


def test_what_they_share_stands_there_once() -> None:
    assert one_of(["label 1", "label 12", "label 2", "no."]) == "(?:label (?:1(?:|2)|2)|no\\.)"
    assert one_of("a" * length for length in range(2 * MAX_NESTED)).count("(?:") == MAX_NESTED
