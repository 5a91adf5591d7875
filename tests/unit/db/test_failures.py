"""The closed table of a row's failures."""

import re

import pytest

from db.failures import FAILURES, NEWER, Failure, describe, is_failure, parts_of


@pytest.mark.parametrize("code", list(FAILURES))
def test_a_failure_is_a_word_a_status_and_a_sentence(code: str) -> None:
    failure = FAILURES[code]
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", code)
    assert 400 <= failure.status <= 599
    assert failure.message[0] in "`" or failure.message[0].isupper()
    assert failure.message.endswith(".")
    assert "{" not in failure.message  # nothing is ever filled in
    assert describe(code) == failure


def test_no_code_stands_twice() -> None:
    from db import failures

    codes = [failure.code for failure in failures._TABLE]
    assert len(codes) == len(set(codes))


def test_a_stored_field_is_named_in_the_sentence() -> None:
    failure = describe("invalid_field:body.labels")
    assert (failure.code, failure.status) == ("invalid_field", 400)
    assert failure.message == f"{FAILURES['invalid_field'].message} (field `body.labels`)"


@pytest.mark.parametrize(
    ("stored", "sentence"),
    [
        ("invalid_field:input:text|a number", "The field `input` must be text, and is a number."),
        ("invalid_field:max_tokens:a whole number of at least 1", "The field `max_tokens` must be a whole number of at least 1."),
        ("unsupported_field:tools:[]", "What the field `tools` asks for is not done here: leave it out, or send []."),
        ("unsupported_field:audio:", "What the field `audio` asks for is not done here: leave it out."),
        ('unsupported_field:x:{"a": 1}', 'What the field `x` asks for is not done here: leave it out, or send {"a": 1}.'),
        ("unknown_field::a, b", "A field is not known here; known are a, b. `textmill docs tasks` and /docs/tasks tell more."),
        ("unknown_field:n:a, b", "The field `n` is not known here; known are a, b. `textmill docs tasks` and /docs/tasks tell more."),
        ("refused_by_server::400", "The server that runs the model refused this row (HTTP status 400)."),
        ("refused_by_server::422|validation", "The server that runs the model refused this row (HTTP status 422, `validation`)."),
        ("refused_by_server::no status", "The server that runs the model refused this row."),
        (
            "input_too_long:input:256",
            "There are more tokens in `input` than the 256 that the model takes. Tokens are neither cut nor read in windows,"
            " whatever `on_long` says: send fewer of them, or the text.",
        ),
        ("unknown_field:m[0]:a", "A field of `m[0]` is not known here; known are a. `textmill docs tasks` and /docs/tasks tell more."),
    ],
)
def test_a_stored_detail_is_told_in_the_sentence(stored: str, sentence: str) -> None:
    assert describe(stored).message == sentence
    assert describe(stored).code == parts_of(stored)[0]


@pytest.mark.parametrize("stored", ["of_a_later_version", "of_a_later_version:model", "of_a_later_version:model:and what is wrong"])
def test_a_code_of_a_newer_version_is_passed_on_and_nothing_else_of_it(stored: str) -> None:
    assert describe(stored) == Failure("of_a_later_version", 500, NEWER)
    assert is_failure(stored)


@pytest.mark.parametrize("stored", ["", "nonsense", "no code at all", "No_Code", "_a_b", "a_", "a_b" * 30, "a_b\n", "é_a"])
def test_what_is_no_code_reads_as_damage_and_not_as_the_models_fault(stored: str) -> None:
    assert not is_failure(stored)
    assert describe(stored).code == "sealed_value_damaged"
    assert describe(stored).status == 500
