"""What a step makes of a line that was written for another step's endpoint."""

import pytest

from db.queue.row import WorkRow
from workers.shard.steps import take_step

CHAT, CLASSIFY = "/v1/chat/completions", "/v1/classifications"
SPEC = {"sources": [{"name": "topic", "task": "classify"}], "prompt": {"name": "p"}}


def taken(body: bytes, endpoint: str | None) -> WorkRow:
    row = WorkRow(0, endpoint=endpoint, body=body, answers=(b'{"label":"a"}',))
    take_step(SPEC, CHAT, [row])
    return row


def test_a_line_for_another_endpoint_is_read_for_its_text_alone() -> None:
    row = taken(b'{"input":"text","labels":["a","b"],"model":"other"}', CLASSIFY)
    assert (row.body, row.endpoint, row.code) == (b'{"input":"text"}', None, None)


@pytest.mark.parametrize("endpoint", [None, CHAT])
def test_any_other_line_is_read_as_it_is(endpoint: str | None) -> None:
    row = taken(b'{"input":"text","seed":1}', endpoint)
    assert (row.body, row.endpoint) == (b'{"input":"text","seed":1}', endpoint)


@pytest.mark.parametrize("body", [b"{", b"[1]"])
def test_a_line_that_is_no_object_is_left_to_its_reading(body: bytes) -> None:
    row = taken(body, CLASSIFY)
    assert (row.code, row.body, row.endpoint) == (None, body, None)
