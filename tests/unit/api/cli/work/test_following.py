"""What the line of progress says beside its numbers."""

import pytest

from api.cli.work.following import note_on
from api.wire import Batch, RowCounts


@pytest.mark.parametrize(
    ("status", "counts", "note"),
    [
        ("completed", RowCounts(3, 1, 2), "2 failed"),
        ("failed", RowCounts(3, 0, 3), "3 failed"),
        ("failed", RowCounts(3, 0, 0), "failed"),
        ("cancelled", RowCounts(3, 1, 0), "cancelled"),
        ("in_progress", RowCounts(3, 1, 0), ""),
    ],
)
def test_what_became_of_a_job_is_said_once(status: str, counts: RowCounts, note: str) -> None:
    assert note_on(Batch("batch_ab", "/v1/classifications", status, "file-1", 0, counts=counts), 0.0) == note
