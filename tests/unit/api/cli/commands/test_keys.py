"""What a line of `textmill audit list` says of an event."""

from api.cli.commands.keys import _event_row


def test_an_event_names_the_rows_that_it_is_about() -> None:
    event = {"action": "rows.read", "object_id": "batch_1", "first_idx": 0, "end_idx": 300}
    ids = {"batch_1": "1"}
    assert _event_row(event, ids)[4:] == ("1", "0–299", "")
    assert _event_row({**event, "end_idx": None}, ids)[5] == "0–"
    assert _event_row({"action": "file.list", "first_idx": None, "end_idx": None}, ids)[4:] == ("", "", "")


def test_an_event_names_the_key_that_did_it_as_the_list_of_keys_does() -> None:
    event = {"action": "results.read", "object_id": "batch_1", "principal_id": "5" * 32, "key_id": "key_2"}
    assert _event_row(event, {"batch_1": "1", "key_2": "2", "5" * 32: "5"})[-1] == "2"
