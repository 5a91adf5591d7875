"""Rows of a job that masks, before its task reads them."""

import pytest

from db.queue.row import WorkRow
from workers.content.masks import Redact, RowMasks, redact_spec
from workers.shard.masking import mask_rows

MAIL = "anna@example.com"


def row(body: bytes | None, **fields: object) -> WorkRow:
    return WorkRow(0, body=body, **fields)  # type: ignore[arg-type]


def test_bodies_and_what_other_jobs_said_are_masked_alike() -> None:
    rows = [row(b'{"input": "anna@example.com"}', answers=(b'{"text": "anna@example.com"}',)), row(b'{"input": "anna@example.com!"}')]
    mask_rows(redact_spec(Redact()), rows)
    texts = [rows[0].body, rows[0].answers[0], rows[1].body]
    assert not any(MAIL.encode() in (text or b"") for text in texts)
    assert len({(text or b"").partition(b"[EMAIL:")[2][:12] for text in texts}) == 1


def test_cells_are_masked_whatever_their_column_is_called() -> None:
    columns = {"text": MAIL, "model": MAIL, "type": [MAIL], "role": {"content": MAIL}, "n": 5}
    rows = [row(b'{"input": "anna@example.com"}', columns=columns, kept=b'["anna@example.com"]')]
    mask_rows(redact_spec(Redact()), rows)
    assert MAIL not in str(rows[0].columns)
    assert (rows[0].columns or {})["n"] == 5


def test_a_row_that_cannot_be_masked_fails_and_no_neighbour() -> None:
    rows = [row(b"nonsense"), row(b'{"input": "x"}'), row(None), row(b"nonsense", code="line_too_long")]
    mask_rows(redact_spec(Redact()), rows)
    assert [one.code for one in rows] == ["invalid_json", None, None, "line_too_long"]


def test_a_fault_of_ours_fails_the_row_and_tells_nothing_of_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_self: RowMasks, body: bytes) -> bytes:
        raise ValueError(body.decode())

    monkeypatch.setattr(RowMasks, "body", broken)
    rows = [row(b'{"input": "canary"}')]
    mask_rows(redact_spec(Redact()), rows)
    assert rows[0].code == "engine_error"
    assert "canary" not in caplog.text
