"""A job is answered by the heads and label sets that it began with, whatever becomes of their names meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from db.actors import Actor
from db.catalogue.heads import delete_head, find_head
from db.catalogue.label_sets import delete_label_set, find_label_set, put_label_set
from db.catalogue.names import JobNames
from db.catalogue.purge import purge_versions
from db.files.stored_names import Names
from db.jobs import jobs, steering
from db.jobs.versions import HEADS, LABEL_SETS, Kind
from db.queue import dispatch, endings
from db.queue.endings import expire_jobs
from tests.db.conftest import AsSuperuser
from tests.db.flow import Stores
from tests.looking import on_record
from tests.workers.shard.test_life import Bench, at_work, body_of
from tests.workers.submitting import row, submit
from workers.shard.life import End

ROWS = 16
OLD, NEW = ["north", "south"], ["east", "west"]


class Newsroom(Bench):
    """A worker, and a head and a label set that are both called `desk`."""

    def train(self, labels: list[str]) -> None:
        examples = [row(at, {"input": f"example {at}", "label": labels[at % 2]}) for at in range(8)]
        self.submit(examples, task="train", head_id=uuid4(), head_name="desk")
        assert self.run() is End.DONE
        endings.finalize_jobs(self.dispatcher)

    def store(self, labels: list[str]) -> None:
        put_label_set(self.api, self.actor, "desk", labels, ["{}"])

    def half(self, *, defaults: dict[str, object] | None = None, **body: object) -> UUID:
        """A job of two shards: the first is done, the second waits behind a pause. ``body``: what each row says beside its text."""
        rows = [row(at, {"input": f"text {at}", **body}) for at in range(ROWS)]
        job_id = submit(self.api, self.actor, rows, defaults=defaults or {})
        dispatch.cut_validating_jobs(self.dispatcher, lambda _model, _task: 1)
        assert self.run() is End.DONE
        steering.pause_job(self.api, self.actor, job_id)
        assert len(self.answers(job_id)) == ROWS // 2
        return job_id

    def finish(self, job_id: UUID) -> str:
        """The state in which it ended."""
        steering.resume_job(self.api, self.actor, job_id)
        assert self.run() is End.DONE
        endings.finalize_jobs(self.dispatcher)
        return jobs.get_job(self.api, self.actor, job_id).state

    def labels(self, job_id: UUID) -> list[set[str]]:
        """What could have been said of each answered row."""
        return [set(body_of(line)["scores"]) for line in self.answers(job_id)]

    def versions(self, kind: Kind) -> int:
        """In the table, deleted or not."""
        with on_record(self.api, self.actor.tenant_id) as conn:
            return int(conn.execute(select(func.count()).select_from(kind.table)).scalar_one())


@pytest.fixture
def room(stores: Stores, tenant: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Newsroom]:
    yield from at_work(Newsroom, stores, tenant, tmp_path, monkeypatch)


# What a job names, as its defaults or row by row, and what makes the next version of that.
NAMED: dict[str, tuple[dict[str, object], Callable[[Newsroom, list[str]], None]]] = {
    "a head": ({"model": "head:desk"}, Newsroom.train),
    "a label set": ({"label_set": "desk"}, Newsroom.store),
}


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("named", NAMED)
def test_what_is_made_anew_while_a_job_is_paused_answers_none_of_its_rows(room: Newsroom, named: str, by_row: bool) -> None:
    fields, make = NAMED[named]
    make(room, OLD)
    job_id = room.half(**fields) if by_row else room.half(defaults=fields)
    make(room, NEW)
    assert room.finish(job_id) == "completed"
    assert room.labels(job_id) == [set(OLD)] * ROWS
    assert len({line.model_version for line in room.answers(job_id)}) == 1
    after = room.half(**fields)
    assert room.labels(after) == [set(NEW)] * (ROWS // 2)


@pytest.mark.parametrize("named", NAMED)
def test_what_is_deleted_while_a_job_is_paused_answers_the_rest_of_it_and_is_erased_then(room: Newsroom, named: str) -> None:
    fields, make = NAMED[named]
    kind, delete = (HEADS, delete_head) if named == "a head" else (LABEL_SETS, delete_label_set)
    make(room, OLD)
    job_id = room.half(**fields)
    make(room, NEW)
    deleted = delete(room.api, room.actor, "desk")
    assert (deleted.versions, deleted.kept) == (2, 1)
    assert (find_head(room.api, room.actor, "desk"), find_label_set(room.api, room.actor, "desk")) == (None, None)
    assert purge_versions(room.dispatcher) == 0
    assert room.finish(job_id) == "completed"
    assert room.labels(job_id) == [set(OLD)] * ROWS
    assert (purge_versions(room.dispatcher), room.versions(kind)) == (1, 0)


def test_rows_may_name_versions_and_each_is_answered_by_its_own(room: Newsroom) -> None:
    for labels in (OLD, NEW):
        room.store(labels)
        room.train(labels)
    bodies = [{"label_set": "desk@1"}, {"label_set": "desk@2"}, {"label_set": "desk"}, {"model": "head:desk@1"}, {"model": "head:desk"}]
    job_id = room.submit([row(at, {"input": "text", **body}) for at, body in enumerate([*bodies, {"label_set": "desk@3"}])], defaults={})
    assert room.run() is End.DONE
    assert room.labels(job_id) == [set(OLD), set(NEW), set(NEW), set(OLD), set(NEW)]
    answers = [body_of(line) for line in room.answers(job_id)]
    assert [answer.get("label_set") for answer in answers] == ["desk@1", "desk@2", "desk@2", None, None]
    assert [answer["model_version"].partition("+head@")[2].partition(":")[0] for answer in answers] == ["", "", "", "1", "2"]
    assert room.failures(job_id) == {5: "unknown_label_set"}


def test_a_name_that_meant_nothing_when_the_job_was_made_means_nothing_later(room: Newsroom) -> None:
    job_id = room.submit([row(0, {"input": "text", "label_set": "desk"}), row(1, {"input": "text", "model": "head:desk"})], defaults={})
    steering.pause_job(room.api, room.actor, job_id)
    room.store(NEW)
    room.train(NEW)
    steering.resume_job(room.api, room.actor, job_id)
    assert room.run() is End.DONE
    assert room.failures(job_id) == {0: "unknown_label_set", 1: "unknown_model"}


def test_a_job_that_is_retried_keeps_its_version_and_says_so_where_that_is_gone(room: Newsroom, as_superuser: AsSuperuser) -> None:
    room.store(OLD)
    job_id = room.half(label_set="desk")
    as_superuser("UPDATE shards SET deadline = now() WHERE state = 'ready'")
    as_superuser("UPDATE jobs SET deadline = now()")
    expire_jobs(room.dispatcher)
    endings.finalize_jobs(room.dispatcher)
    room.store(NEW)
    steering.retry_job(room.api, room.actor, job_id)
    assert room.run() is End.DONE
    endings.finalize_jobs(room.dispatcher)
    assert room.labels(job_id) == [set(OLD)] * ROWS
    as_superuser("DELETE FROM results WHERE idx = 15")
    as_superuser("UPDATE shards SET completed_count = completed_count - 1 WHERE end_idx = 16")
    as_superuser("UPDATE jobs SET completed_count = completed_count - 1")
    delete_label_set(room.api, room.actor, "desk@1")
    steering.retry_job(room.api, room.actor, job_id)
    assert room.run() is End.DONE
    assert room.failures(job_id) == {15: "version_gone"}


def test_a_job_that_pins_nothing_because_it_is_older_than_versions_goes_on_with_the_first(
    room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.store(OLD)
    room.train(OLD)
    monkeypatch.setattr("tests.workers.submitting.names_for_job", lambda *_of: JobNames(None, None))
    by_set, by_head = room.half(label_set="desk"), room.half(model="head:desk")
    room.store(NEW)
    room.train(NEW)
    for job_id in (by_set, by_head):
        assert room.finish(job_id) == "completed"
        assert room.labels(job_id) == [set(OLD)] * ROWS


@pytest.mark.parametrize("table", ["label_sets", "models"])
def test_a_version_that_somebody_put_in_the_place_of_another_answers_nothing(room: Newsroom, as_superuser: AsSuperuser, table: str) -> None:
    """The numbers of two versions are exchanged before the job is made, so that the older one looks newest."""
    make = room.store if table == "label_sets" else room.train
    make(OLD)
    make(NEW)
    as_superuser(f"UPDATE {table} SET number = 3 - number + 10")
    as_superuser(f"UPDATE {table} SET number = number - 10")
    rows = [row(0, {"input": "text", **({"label_set": "desk"} if table == "label_sets" else {"model": "head:desk"})})]
    names = Names(frozenset({"desk"}), frozenset({"desk"}))
    job_id = submit(room.api, room.actor, rows, defaults={}, names=names)
    dispatch.cut_validating_jobs(room.dispatcher, lambda _model, _task: 10**9)
    assert room.run() is End.DONE
    assert (room.answers(job_id), room.failures(job_id)) == ([], {0: "sealed_value_damaged"})
