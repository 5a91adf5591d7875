import json

from api.demo.corpus import LABELS
from tests.benchmarks.peers.ours import NO_LABEL, labels_of


def line(custom_id: str, label: str) -> bytes:
    return json.dumps({"custom_id": custom_id, "response": {"status_code": 200, "body": {"label": label, "scores": {label: 1.0}}}}).encode()


def test_labels_stand_where_their_rows_do_whatever_the_order_of_lines() -> None:
    assert labels_of([line("2", LABELS[4]), line("0", LABELS[1]), line("1", LABELS[0])], 3) == (1, 0, 4)


def test_a_row_without_a_label_is_told_of() -> None:
    failed = json.dumps({"custom_id": "1", "response": None, "error": {"code": "out_of_memory"}}).encode()
    assert labels_of([line("0", LABELS[2]), failed], 3) == (2, NO_LABEL, NO_LABEL)
