"""What a job's checks ask for, and what is refused before there is a job."""

from typing import Any

import pytest

from workers.content.checks import MAX_CHECKS, InvalidChecks, bare, has_phrase, read_checks

Given = dict[str, Any]

REFUSED: dict[str, tuple[list[Given], str]] = {
    "kind-unknown": ([{"check": "beauty"}], "checks[0].check"),
    "kind-missing": ([{"max": 3}], "checks[0].check"),
    "kind-is-no-text": ([{"check": ["length"]}], "checks[0].check"),
    "field-unknown": ([{"check": "length", "max": 3, "most": 4}], "checks[0]"),
    "field-missing": ([{"check": "length", "max": 3}, {"check": "regex"}], "checks[1]"),
    "wrong-type": ([{"check": "length", "max": "three"}], "checks[0].max"),
    "out-of-range": ([{"check": "length", "min": -1}], "checks[0].min"),
    "asks-nothing": ([{"check": "length"}], "checks[0]"),
    "min-above-max": ([{"check": "length", "min": 9, "max": 8}], "checks[0].max"),
    "no-word-at-all": ([{"check": "length", "max": 0}], "checks[0].max"),
    "two-lengths": ([{"check": "length", "min": 9}, {"check": "length", "max": 8}], "checks[1].max"),
    "words-in-few-characters": ([{"check": "length", "min": 9}, {"check": "length", "unit": "characters", "max": 16}], "checks[1]"),
    "two-languages": ([{"check": "language", "any_of": ["de"]}, {"check": "language", "any_of": ["fr", "en"]}], "checks[1].any_of"),
    "language-by-name": ([{"check": "language", "any_of": ["German"]}], "checks[0].any_of"),
    "required-and-forbidden": (
        [{"check": "forbidden", "words": ["oak"]}, {"check": "required", "words": ["Solid OAK"]}],
        "checks[1].words",
    ),
    "required-too-long": (
        [{"check": "required", "words": ["unbreakable"]}, {"check": "length", "unit": "characters", "max": 10}],
        "checks[0].words",
    ),
    "blank-word": ([{"check": "forbidden", "words": [" "]}], "checks[0].words"),
    "no-words": ([{"check": "required", "words": []}], "checks[0].words"),
    "similarity-of-nothing": ([{"check": "unlike_prompt", "similarity": 0}], "checks[0].similarity"),
    "too-many": ([{"check": "length", "max": 9}] * (MAX_CHECKS + 1), f"checks[{MAX_CHECKS}]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_check_is_or_no_answer_passes_is_refused_by_its_place(case: str) -> None:
    given, param = REFUSED[case]
    with pytest.raises(InvalidChecks) as refused:
        read_checks(given)
    assert refused.value.param == param


def test_a_refusal_holds_nothing_that_was_sent() -> None:
    for given in (
        {"check": "canary"},
        {"check": "length", "canary": 1},
        {"check": "length", "max": "canary"},
        {"check": "regex", "pattern": "canary" * 1_000},
        {"check": "language", "any_of": ["CANARY"]},
    ):
        with pytest.raises(InvalidChecks) as refused:
            read_checks([given])
        assert "canary" not in f"{refused.value.param} {refused.value}".lower()


def test_bounds_that_leave_one_length_are_taken() -> None:
    assert len(read_checks([{"check": "length", "min": 8, "max": 8}, {"check": "length", "unit": "characters", "max": 15}])) == 2


@pytest.mark.parametrize(
    ("text", "phrase", "there"),
    [
        ("Solid OAK, oiled.", "oak", True),
        ("A cloak of wool", "oak", False),
        ("oak_table", "oak", False),
        ("cloak and oak", "oak", True),
        ("die STRASSE", "Straße", True),
        ("made of\n solid   oak", "Solid oak", True),
        ("written in C++.", "c++", True),
        ("written in C.", "c++", False),
        ("C++11", "c++", True),
        ("这是橡木桌子", "橡木", True),
        ("ΟΔΟΣ", "οδος", True),
    ],
)
def test_words_are_found_whole_and_in_any_case(text: str, phrase: str, there: bool) -> None:
    assert has_phrase(bare(text), phrase) is there
