"""What a job was asked is sealed for this job: whoever changes it in the database, or puts another job's in its place, gets no answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import make_url

from db.actors import Actor
from db.jobs import jobs
from db.queue import dispatch, endings
from db.queue.shards import claim_any
from db.settings import StoreSettings
from tests.conftest import Server
from tests.db.flow import Flow, Stores
from tests.workers.shard.test_life import Bench, body_of
from tests.workers.submitting import LABELS, row, submit
from workers.engines.fake import expected_label
from workers.settings import WorkerSettings

ROWS = 16  # of a job: two shards
OTHER_LABELS = ["north", "east", "south", "west"]
FLIPPED = "set_byte(spec_sealed, octet_length(spec_sealed) - 1, get_byte(spec_sealed, octet_length(spec_sealed) - 1) # 1)"


class Mill(Bench):
    """A worker, and somebody with the database in his hands."""

    superuser: "psycopg.Connection[Any]"

    def job(self, name: str, labels: list[str]) -> UUID:
        rows = [row(at, {"input": f"{name} {at}"}) for at in range(ROWS)]
        job_id = submit(self.api, self.actor, rows, defaults={"labels": labels, "templates": ["{}"]})
        dispatch.cut_validating_jobs(self.dispatcher, lambda _model, _task: 1)
        return job_id

    def run_all(self) -> int:
        """Until nothing is left to do, without the waits in between. Returns how often a shard was tried."""
        tries = 0
        while True:
            self.superuser.execute("UPDATE shards SET not_before = NULL")
            claimed_at = self.keeper.now()
            leases = claim_any(self.worker, "test:1", limit=1)
            if not leases:
                endings.finalize_jobs(self.dispatcher)
                return tries
            for lease in leases:
                self.task.run(lease, claimed_at)
                tries += 1

    def told(self, job_id: UUID, name: str, labels: list[str]) -> tuple[list[int], dict[int, str | None]]:
        """(which rows were answered, codes of the others). No answer is another than what was asked for makes it."""
        answered = self.answers(job_id)
        for line in answered:
            assert body_of(line)["label"] == expected_label(f"{name} {line.idx}", labels, ["{}"])
        return [line.idx for line in answered], self.failures(job_id)

    def state(self, job_id: UUID) -> str:
        return jobs.get_job(self.api, self.actor, job_id).state


@pytest.fixture
def mill(
    server: Server, stores: Stores, tenant: Actor, settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mill]:
    monkeypatch.setenv("TEXTMILL_FAKE_ENGINE", "1")
    database = make_url(str(settings.database_url)).database
    assert database is not None
    made = Mill(stores, tenant, WorkerSettings(home=tmp_path, device="cpu"))
    url = server.postgres.superuser_url(database).render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as made.superuser:
        yield made
    made.runtime.close(drain=False)


def test_a_spec_that_was_altered_under_a_running_job_answers_nothing_more(mill: Mill) -> None:
    job_id, neighbour = mill.job("altered", LABELS), mill.job("neighbour", LABELS)
    claimed_at = mill.keeper.now()
    (lease,) = (one for one in claim_any(mill.worker, "test:1", limit=4) if (one.job_id, one.first_idx) == (job_id, 0))
    mill.task.run(lease, claimed_at)
    mill.superuser.execute("UPDATE shards SET state = 'ready', lease_expires_at = NULL, worker = NULL WHERE state = 'leased'")
    assert mill.superuser.execute(f"UPDATE job_specs SET spec_sealed = {FLIPPED} WHERE job_id = %s", [job_id]).rowcount == 1  # type: ignore[arg-type]
    tries = mill.run_all()
    before, after = range(ROWS // 2), range(ROWS // 2, ROWS)
    assert mill.told(job_id, "altered", LABELS) == ([*before], dict.fromkeys(after, "sealed_value_damaged"))
    assert mill.told(neighbour, "neighbour", LABELS) == ([*range(ROWS)], {})
    assert tries == 1 + 2, "it costs no second try"
    assert (mill.state(job_id), mill.state(neighbour)) == ("completed", "completed")


@pytest.mark.parametrize("other_tenants", [False, True])
def test_specs_put_in_each_others_place_answer_neither_job(mill: Mill, stores: Stores, other_tenants: bool) -> None:
    first, neighbour = mill.job("first", LABELS), mill.job("neighbour", LABELS)
    own = mill.actor
    if other_tenants:
        mill.actor = Flow(stores).new_tenant()
    second = mill.job("second", OTHER_LABELS)
    swapped = mill.superuser.execute(
        "UPDATE job_specs a SET spec_sealed = b.spec_sealed FROM job_specs b"
        " WHERE (a.job_id, b.job_id) IN ((%(first)s, %(second)s), (%(second)s, %(first)s))",
        {"first": first, "second": second},
    )
    assert swapped.rowcount == 2
    tries = mill.run_all()
    nothing = ([], dict.fromkeys(range(ROWS), "sealed_value_damaged"))
    assert (mill.told(second, "second", OTHER_LABELS), mill.state(second)) == (nothing, "failed")
    mill.actor = own
    assert (mill.told(first, "first", LABELS), mill.state(first)) == (nothing, "failed")
    assert mill.told(neighbour, "neighbour", LABELS) == ([*range(ROWS)], {})
    assert tries == 4 + 2
