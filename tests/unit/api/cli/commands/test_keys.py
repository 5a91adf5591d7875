"""What a line of `textmill audit list` says of an event."""

import pytest

from api.cli.commands.keys import _event_row, _why_asked

ADMIN = {"id": "key_1", "scopes": ["admin"], "revoked_at": None, "expires_at": None, "damaged": False, "current": False}
OTHER = {**ADMIN, "id": "key_2"}


@pytest.mark.parametrize(
    "other",
    [{**OTHER, "revoked_at": 1}, {**OTHER, "expires_at": 1}, {**OTHER, "damaged": True}, {**OTHER, "scopes": ["read"]}],
)
def test_the_last_key_that_makes_others_is_one_beside_those_that_cannot(other: dict[str, object]) -> None:
    assert "no other key" in (_why_asked(ADMIN, [ADMIN, other]) or "")
    assert _why_asked(ADMIN, [ADMIN, OTHER]) is None
    assert _why_asked(other, [ADMIN, other]) is None


def test_the_key_in_use_is_asked_for_whatever_others_there_are() -> None:
    assert "the key in use" in (_why_asked({**ADMIN, "current": True}, [ADMIN, OTHER]) or "")


def test_an_event_names_the_rows_that_it_is_about() -> None:
    event = {"action": "rows.read", "object_id": "batch_1", "first_idx": 0, "end_idx": 300}
    ids = {"batch_1": "1"}
    assert _event_row(event, ids)[4:] == ("1", "1–300", "")
    assert _event_row({**event, "end_idx": None}, ids)[5] == "1–"
    assert _event_row({"action": "file.list", "first_idx": None, "end_idx": None}, ids)[4:] == ("", "", "")


def test_an_event_names_the_key_that_did_it_as_the_list_of_keys_does() -> None:
    event = {"action": "results.read", "object_id": "batch_1", "principal_id": "5" * 32, "key_id": "key_2"}
    assert _event_row(event, {"batch_1": "1", "key_2": "2", "5" * 32: "5"})[-1] == "2"
