"""Masks of a job over its rows, and back."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.redaction.test_masking import KEY
from workers.content.masks import JobMasks, Redact, RowMasks, Unmaskable, redact_spec, unmasked, values_of
from workers.redaction.masking import Masker, standing_in
from workers.redaction.span import KINDS

REDACT = {"kinds": list(KINDS), "key": "11" * 32}
MAIL, PHONE, IBAN = "anna@example.com", "+49 30 123456", "DE89 3704 0044 0532 0130 00"


def body_of(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {"input": f"write to {MAIL}"},
        {"messages": [{"role": "user", "content": f"{PHONE} is {MAIL}"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": IBAN}]}]},
        {"prompt": ["plain", f"one of {MAIL}"]},
        {"input": [MAIL, PHONE], "user": MAIL},
        {"instructions": f"answer {MAIL}", "input": "x"},
        {"labels": [MAIL, "other"], "templates": [f"{{}} {PHONE}"], "input": "x"},
        {"text": MAIL, "query": PHONE, "whatever": {"deep": [IBAN]}},
    ],
)
def test_no_text_of_a_body_keeps_a_value(fields: dict[str, Any]) -> None:
    masked = JobMasks(REDACT).of_row(body_of(**fields), None).body(body_of(**fields))
    assert not any(value.encode() in masked for value in (MAIL, PHONE, IBAN))
    assert json.loads(masked).keys() == fields.keys()


def test_names_in_a_body_stay() -> None:
    body = body_of(model="a@example.com", input=MAIL, messages=[{"role": "user", "content": "x"}])
    masked = json.loads(JobMasks(REDACT).of_row(body, None).body(body))
    assert (masked["model"], masked["messages"]) == ("a@example.com", [{"role": "user", "content": "x"}])


def test_of_a_field_that_stands_twice_no_value_is_left() -> None:
    body = b'{"input": "anna@example.com", "input": "plain"}'
    assert MAIL.encode() not in JobMasks(REDACT).of_row(body, None).body(body)


def test_a_value_has_one_mask_in_all_of_a_job_and_others_in_another() -> None:
    def mask(redact: dict[str, Any], text: str) -> str:
        return str(JobMasks(redact).of_row(None, None).cell(text))

    assert mask(REDACT, MAIL) == mask(REDACT, f"{MAIL}") == mask(REDACT, MAIL.upper())
    assert mask(redact_spec(Redact()), MAIL) != mask(redact_spec(Redact()), MAIL)


def test_only_the_kinds_that_are_asked_for_are_masked() -> None:
    masks = JobMasks(redact_spec(Redact(kinds=["phone"]))).of_row(None, None)
    assert masks.cell([MAIL, 5, None, {"a": PHONE}])[:3] == [MAIL, 5, None]
    assert PHONE not in str(masks.cell({"a": PHONE}))


@pytest.mark.parametrize("card", [4111111111111111, 4111111111111111.0, Decimal("4111111111111111")])
def test_numbers_and_names_within_a_cell_are_masked_and_come_back(card: Any) -> None:
    masks = JobMasks(REDACT).of_row(None, None)
    told = masks.columns({"card": card, "of": [{MAIL: 1}], "plain": [7, 2.5, True, None], MAIL: 1})
    assert isinstance(told["card"], str)
    assert MAIL not in str(told["of"])
    assert told["plain"] == [7, 2.5, True, None]
    assert told[MAIL] == 1
    assert set(masks.values.values()) == {"4111111111111111", MAIL}


def test_what_a_row_sets_by_a_number_stays_one() -> None:
    body = body_of(input="x", seed=4111111111111111)
    assert json.loads(JobMasks(REDACT).of_row(body, None).body(body))["seed"] == 4111111111111111


def test_a_mask_that_stands_in_another_column_is_given_to_no_value_of_the_row() -> None:
    masker = Masker(KEY)
    [taken] = masker.mask(MAIL).values
    row = RowMasks(masker, standing_in(f'["{taken}"]'))
    [given] = [row.cell(MAIL)]
    assert given != taken
    assert unmasked(body_of(a=f"{taken} {given}"), row.values) == body_of(a=f"{taken} {MAIL}")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"nonsense", "invalid_json"),
        (b'["a"]', "invalid_json"),
        (b'{"input": "\xff"}', "invalid_utf8"),
        (b'{"a": ' * 3_000 + b"1" + b"}" * 3_000, "too_deep"),
        (b'{"prompt": [1, 2]}', "unsupported_field"),
        (b'{"input": [[1, 2]]}', "unsupported_field"),
    ],
)
def test_what_cannot_be_masked_no_model_sees(body: bytes, code: str) -> None:
    with pytest.raises(Unmaskable) as unmaskable:
        JobMasks(REDACT).of_row(body, None).body(body)
    assert unmaskable.value.code.partition(":")[0] == code


def test_what_another_job_said_is_masked_and_masks_of_the_same_chain_stay() -> None:
    masks = JobMasks(REDACT)
    mask = masks.of_row(None, None).cell(MAIL)
    answer = body_of(text=f"{mask} or {PHONE}", score=0.5)
    told = json.loads(masks.of_answer(answer))
    assert told["text"].startswith(f"{mask} or [PHONE:")
    assert masks.of_answer(b'{"skipped":true}') == b'{"skipped":true}'


def test_a_row_finds_its_masks_again() -> None:
    masks = JobMasks(REDACT)
    body, kept = body_of(input=f"write to {MAIL}"), json.dumps([None, PHONE, {"deep": IBAN}]).encode()
    row = masks.of_row(body, kept)
    answer = body_of(text=" ".join([row.body(body).decode(), row.cell(PHONE), row.cell(IBAN), "[EMAIL:aaaaaaaaaaaa]"]))
    again = masks.of_row(body, kept)
    told = json.loads(unmasked(answer, values_of(again, (body, kept, None, b"nonsense"))))["text"]
    assert all(value in told for value in (MAIL, PHONE, IBAN, "[EMAIL:aaaaaaaaaaaa]"))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_masking_and_putting_back_leaves_a_text_as_it_was(before: str, after: str) -> None:
    text = f'{before} {MAIL} "x" {after}'
    row = JobMasks(REDACT).of_row(None, None)
    told = unmasked(body_of(text=row.cell(text)), row.values)
    assert json.loads(told)["text"] == text
