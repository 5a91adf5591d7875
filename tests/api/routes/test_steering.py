"""`/v1/batches/{id}/pause` and its like: what a client asks of a batch on its way, and what the batch says afterwards."""

from tests.api.conftest import Served
from tests.api.lines import ROWS, classify_file, classify_line
from tests.api.mill import Mill
from tests.api.routes.test_batches import create, uploaded
from tests.api.routes.test_files import error_of


def started(api: Served, mill: Mill, rows: int = ROWS) -> str:
    """The path of a batch of which one shard is done."""
    batch = create(api, uploaded(api, classify_file(rows))).json()
    mill.cut(shard_chars=1)
    mill.run_one_shard()
    return f"/v1/batches/{batch['id']}"


def test_a_paused_batch_is_in_progress_for_the_stock_client_and_says_that_it_is_paused(api: Served, mill: Mill) -> None:
    path = started(api, mill)
    paused = api.http().post(f"{path}/pause").json()
    assert (paused["status"], paused["textmill"]["paused"], paused["textmill"]["eta_seconds"]) == ("in_progress", True, None)
    done = paused["request_counts"]["completed"]
    assert not mill.run_one_shard()
    resumed = api.http().post(f"{path}/resume").json()
    assert (resumed["textmill"]["paused"], resumed["request_counts"]["completed"]) == (False, done)
    assert resumed["textmill"]["eta_seconds"] is None, "one shard tells nothing of its speed"
    mill.run_all()
    assert api.http().get(path).json()["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0}


def test_a_retry_runs_the_failed_rows_of_a_batch_that_has_ended(api: Served, mill: Mill) -> None:
    batch = create(api, uploaded(api, classify_line("a", "a text") + classify_line("b", ""))).json()
    path = f"/v1/batches/{batch['id']}"
    assert error_of(api.http().post(f"{path}/retry"))[:2] == (409, "cannot_retry")
    mill.run_all()
    assert api.http().get(path).json()["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    again = api.http().post(f"{path}/retry").json()
    assert (again["status"], again["completed_at"], again["textmill"]["retries"]) == ("in_progress", None, 1)
    assert again["request_counts"] == {"total": 2, "completed": 1, "failed": 0}
    mill.run_all()
    ended = api.http().get(path).json()
    assert (ended["status"], ended["request_counts"]["failed"]) == ("completed", 1), "an empty text is empty the second time too"
    assert len(api.http().get(f"/v1/files/{ended['error_file_id']}/content").text.splitlines()) == 1


def test_a_priority_is_changed_while_the_batch_runs(api: Served, mill: Mill) -> None:
    path = started(api, mill)
    assert api.http().post(f"{path}/priority", json={"priority": 9}).json()["textmill"]["priority"] == 9
    for body, code in (({"priority": 100}, "invalid_field"), ({"priority": "high"}, "invalid_field"), ({}, "missing_field")):
        assert error_of(api.http().post(f"{path}/priority", json=body))[:2] == (400, code)


def test_a_deleted_batch_is_gone_with_its_results_and_not_its_file(api: Served, mill: Mill) -> None:
    path = started(api, mill)
    batch = api.http().get(path).json()
    output = f"/v1/files/{batch['textmill']['output_file_id']}/content"
    assert api.http().get(output).status_code == 200
    assert api.http().delete(path).json() == {"id": batch["id"], "object": "batch", "deleted": True}
    for gone in (path, output):
        assert api.http().get(gone).status_code == 404
    assert api.http().delete(path).status_code == 404
    assert not mill.run_one_shard()
    assert api.http().get(f"/v1/files/{batch['input_file_id']}").status_code == 200
