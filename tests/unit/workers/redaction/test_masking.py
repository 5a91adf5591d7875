import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.workers.redaction.generated import texts
from workers.redaction.masking import Masker, put_back

KEY = bytes(range(32))


def test_a_masked_text_holds_none_of_its_values_and_comes_back_whole() -> None:
    masker = Masker(KEY)
    for generated in texts(200, seed=3):
        masked = masker.mask(generated.text)
        for kind, start, end in generated.known:
            assert kind in masked.counts
            assert generated.text[start:end] not in masked.text
        assert sum(masked.counts.values()) == len(generated.known)
        assert put_back(masked.text, masked.values) == generated.text


def test_the_same_value_has_the_same_mask_in_every_worker_that_has_the_jobs_key_and_under_another_key_another() -> None:
    text = "anna@example.com"
    assert Masker(KEY).mask(text).text == Masker(KEY).mask(f"{text}!").text.removesuffix("!")
    assert Masker(KEY).mask(text).text != Masker(KEY[::-1]).mask(text).text


def test_spellings_of_one_value_share_its_mask() -> None:
    one, other = "+49 171 1234567", "+49-171-123 45 67"
    assert Masker(KEY).mask(one).text == Masker(KEY).mask(other).text
    assert Masker(KEY).mask("Anna@Example.com").text == Masker(KEY).mask("anna@example.com").text


def test_two_values_have_two_masks() -> None:
    masks = {Masker(KEY).mask(f"anna{number}@example.com").text for number in range(1000)}
    assert len(masks) == 1000


def test_a_mask_that_stands_in_the_text_already_is_not_given_to_a_value() -> None:
    taken = Masker(KEY).mask("anna@example.com").text
    text = f"{taken} and anna@example.com"
    masked = Masker(KEY).mask(text)
    assert masked.text.startswith(taken)
    assert masked.text.count(taken) == 1
    assert put_back(masked.text, masked.values) == text


def test_what_is_masked_already_is_left() -> None:
    once = Masker(KEY).mask("anna@example.com, 4111 1111 1111 1111, 10.0.0.1").text
    assert Masker(KEY).mask(once).text == once


def test_a_mask_of_another_row_stays_when_values_are_put_back() -> None:
    assert put_back("[EMAIL:aaaaaaaaaaaa]", {"[EMAIL:bbbbbbbbbbbb]": "x"}) == "[EMAIL:aaaaaaaaaaaa]"


def test_a_value_that_is_put_back_is_not_read_for_masks() -> None:
    values = {"[EMAIL:aaaaaaaaaaaa]": "[EMAIL:bbbbbbbbbbbb]", "[EMAIL:bbbbbbbbbbbb]": "x"}
    assert put_back("[EMAIL:aaaaaaaaaaaa]", values) == "[EMAIL:bbbbbbbbbbbb]"


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Masker(b"short")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.text(alphabet="0123456789+-. ()@:/abcDE[]", max_size=200))
def test_any_text_comes_back(some: str, more: str) -> None:
    text = f"{some} anna@example.com {more}"
    masked = Masker(KEY).mask(text)
    assume(len(masked.values) == sum(masked.counts.values()))  # no value in two spellings
    assert "anna@example.com" not in masked.text
    assert put_back(masked.text, masked.values) == text


def test_a_large_cell_is_masked_whole() -> None:
    text = "write to anna@example.com or 4111 1111 1111 1111, else wait for a while. " * 7_000
    masked = Masker(KEY).mask(text)
    assert len(masked.values) == 2
    assert sum(masked.counts.values()) == 14_000
    assert put_back(masked.text, masked.values) == text
