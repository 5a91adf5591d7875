"""The closed table of a row's failures."""

import re

import pytest

from db.failures import FAILURES, describe


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
    assert describe("invalid_field", "body.labels") == failure
    assert describe("invalid_field:a", "b").message.endswith("(field `b`)")


@pytest.mark.parametrize("stored", ["of_a_later_version", "of_a_later_version:model", ""])
def test_an_unknown_code_reads_as_an_engine_error(stored: str) -> None:
    assert describe(stored).code == "engine_error"
    assert describe(stored).status == 500
