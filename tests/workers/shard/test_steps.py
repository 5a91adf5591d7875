"""The steps of a chain, on a real store: each reads the sealed results of those before it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from db.actors import Actor
from db.files.stored_names import Names
from db.jobs.creating import NewJob, create_job
from db.queue import dispatch, endings
from db.schema import jobs
from tests.workers.shard.test_life import Bench, Stores, at_work
from tests.workers.submitting import ENDPOINTS, LABELS, MODELS, row, upload
from workers.engines.fake import expected_label
from workers.shard.life import End


@pytest.fixture
def bench(stores: Stores, tenant: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from at_work(Bench, stores, tenant, tmp_path, monkeypatch)


def step(name: str, task: str, **spec: Any) -> dict[str, Any]:
    return {"task": task, "step": name, "spec": {"defaults": {"labels": LABELS, "templates": ["{}"]} if task == "classify" else {}, **spec}}


def chain(bench: Bench, rows: list[Any], *steps: dict[str, Any]) -> list[UUID]:
    file_id = upload(bench.api, bench.actor, rows)
    made = [
        NewJob(
            **one,
            endpoint=ENDPOINTS[one["task"]],
            file_id=file_id,
            model=MODELS[one["task"]],
            metadata=None,
            priority=0,
            completion_window=timedelta(hours=1),
            names=Names() if one["task"] == "classify" else None,
        )
        for one in steps
    ]
    held = create_job(bench.api, bench.actor, replace(made[-1], before=tuple(made[:-1])))
    with bench.api.transaction(tenant=bench.actor.tenant_id) as conn:
        return list(conn.execute(select(jobs.c.job_id).where(jobs.c.chain_id == held.job_id).order_by(jobs.c.step)).scalars())


def run_step(bench: Bench) -> None:
    assert dispatch.cut_validating_jobs(bench.dispatcher, lambda _model, _task: 10**9) == 1
    assert bench.run() is End.DONE
    endings.finalize_jobs(bench.dispatcher)


def answers(bench: Bench, job_id: UUID) -> dict[int, Any]:
    return {line.idx: json.loads(line.payload or b"") for line in bench.answers(job_id)}


def test_rows_are_classified_written_about_where_they_are_chosen_and_what_was_written_is_classified(bench: Bench) -> None:
    texts = [f"the {at}th text of many" for at in range(24)]
    labels = [expected_label(text, LABELS, ["{}"]) for text in texts]
    chosen = [at for at, label in enumerate(labels) if label in LABELS[:2]]
    assert 0 < len(chosen) < len(texts)
    when = [{"step": "topic", "label": LABELS[:2]}]
    topic, write, mood = chain(
        bench,
        [row(at, {"input": text}) for at, text in enumerate(texts)],
        step("topic", "classify"),
        step("write", "generate", when=when),
        step("mood", "classify"),
    )
    for _ in range(3):
        run_step(bench)
    assert [told["label"] for told in answers(bench, topic).values()] == labels
    written = answers(bench, write)
    assert len(written) == len(texts)
    assert [at for at, told in written.items() if told != {"skipped": True}] == chosen
    said = {at: told["choices"][0]["message"]["content"] for at, told in written.items() if at in chosen}
    moods = answers(bench, mood)
    assert {at: told for at, told in moods.items() if at not in chosen} == {at: {"skipped": True} for at in moods if at not in chosen}
    assert {at: told["label"] for at, told in moods.items() if at in chosen} == {
        at: expected_label(text, LABELS, ["{}"]) for at, text in said.items()
    }
    assert bench.failures(mood) == {}


def test_a_row_that_fails_in_one_step_fails_behind_it_and_says_in_which(bench: Bench) -> None:
    rows = [row(0, {"input": "fine"}), row(1, b"not json"), row(2, {"input": ""})]
    first, second, third = chain(bench, rows, step("a", "classify"), step("b", "generate"), step("c", "classify"))
    for _ in range(3):
        run_step(bench)
    assert bench.failures(first) == {1: "invalid_json", 2: "empty_input:input"}
    assert bench.failures(second) == bench.failures(third) == {1: "step_failed:1", 2: "step_failed:1"}
    assert set(answers(bench, third)) == {0}
