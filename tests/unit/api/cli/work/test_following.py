"""What the line of progress says beside its numbers."""

import pytest

from api.cli.terminal.progress import Silent
from api.cli.work import following
from api.cli.work.following import follow, note_on
from api.client import Unreachable
from api.wire import Batch, Extras, RowCounts


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


def test_rows_are_taken_at_each_look_and_a_server_that_is_away_meanwhile_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following.time, "sleep", lambda _seconds: None)
    looks = [Batch("batch_ab", "/v1/embeddings", "in_progress", "file-1", 0, textmill=Extras(readable_rows=rows)) for rows in (0, 2, 5)]
    ended = Batch("batch_ab", "/v1/embeddings", "completed", "file-1", 0)
    left, taken = [*looks[1:], ended], list[int | None]()

    class Client:
        def batch(self, _id: str) -> Batch:
            return left.pop(0)

    def take(batch: Batch) -> None:
        taken.append(batch.textmill.readable_rows)
        if len(taken) == 1:
            raise Unreachable("away")

    assert follow(Client(), looks[0], Silent(), take) is ended  # type: ignore[arg-type]
    assert taken == [2, 5]  # what is left at the end is for whoever asked
