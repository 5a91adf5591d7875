"""``GET /v1/batches/{id}/shards``, as a client reads it."""

from api.client import Client
from db.connect import Store
from db.settings import Role
from tests.api.conftest import Served
from tests.api.mill import Mill, Stores
from tests.workers.submitting import row, submit
from workers.engines.fake import MARKS


def test_a_job_s_shards_are_told_while_it_runs_and_after(api: Served, mill: Mill, stores: Stores) -> None:
    store: Store = stores(Role.API)
    job_id = submit(store, api.actor, [row(at, {"input": f"text {at}"}) for at in range(20)] + [row(20, {"input": MARKS["nan"]})])
    batch_id = f"batch_{job_id.hex}"
    with Client(api.url, api.key) as client:
        assert client.story(batch_id).totals == []
        mill.cut(shard_chars=1)
        waiting = client.story(batch_id)
        assert {shard.state for shard in waiting.shards} == {"ready"}
        assert (waiting.shards[0].first_row, waiting.shards[-1].end_row) == (0, 21)
        mill.run_all()
        ended = client.story(batch_id)
    assert ended.shards == []
    assert [(total.state, total.rows) for total in ended.totals] == [("done", 21)]
    assert [(each.worker, each.rows) for each in ended.workers] == [("tests:1", 21)]


def test_no_such_job_is_404(api: Served) -> None:
    for batch_id in ("batch_" + "0" * 32, "nonsense"):
        assert api.http().get(f"/v1/batches/{batch_id}/shards").status_code == 404
