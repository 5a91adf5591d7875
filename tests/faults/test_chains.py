"""F54: kill -9 in each step of a chain. No row is lost or doubled, none is out of step, and every read of a step before is on record."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import text

from db.files.stored_names import Names
from db.jobs import jobs
from db.jobs.creating import NewJob, create_job
from db.jobs.results import iter_results
from tests.faults.conftest import Verdict
from tests.faults.counters import NEVER, Counters, Load, check, first_reads
from tests.faults.house import House, texts
from tests.workers.submitting import ENDPOINTS, LABELS, MODELS, row, upload
from workers.engines.fake import expected_label

ROWS: Final = 600
DELAY_MS: Final = 4.0
CHOSEN: Final = LABELS[:3]
SKIPPED: Final = {"skipped": True}
LABELLED: Final = {"defaults": {"labels": LABELS, "templates": ["{}"]}}
STEPS: Final[tuple[tuple[str, str, dict[str, object]], ...]] = (
    ("topic", "classify", LABELLED),
    ("write", "generate", {"defaults": {}, "when": [{"step": "topic", "label": CHOSEN}]}),
    ("mood", "classify", LABELLED),
)


def submit_chain(house: House, documents: list[str]) -> list[UUID]:
    file_id = upload(house.api, house.actor, [row(at, {"input": document}) for at, document in enumerate(documents)])
    made = [
        NewJob(
            task=task,
            endpoint=ENDPOINTS[task],
            file_id=file_id,
            model=MODELS[task],
            spec=spec,
            metadata=None,
            priority=0,
            completion_window=timedelta(hours=1),
            names=Names() if task == "classify" else None,
            step=name,
        )
        for name, task, spec in STEPS
    ]
    held = create_job(house.api, house.actor, replace(made[-1], before=tuple(made[:-1])))
    return [step.job_id for step in held.steps]


@pytest.mark.matrix
@pytest.mark.fault("F54", "kill -9 of every worker in each step of a chain of three")
def test_a_chain_whose_workers_are_killed_in_each_step_keeps_every_row_in_step(house: House, verdict: Verdict) -> None:
    documents = texts(ROWS)
    house.start_dispatcher()
    ids = submit_chain(house, documents)
    killed = []
    for job_id in ids:
        workers = [house.start_worker(delay_ms=DELAY_MS) for _ in range(2)]
        house.wait_for(lambda job_id=job_id: 0 < house.done_count(job_id) < ROWS, "the step is under way", 60)  # type: ignore[misc]
        for worker in workers:
            worker.kill()
        killed.append(ROWS - house.done_count(job_id))
    house.start_worker()
    house.wait_completed(ids[-1], 120)
    told = [answers(house, job_id) for job_id in ids]
    out_of_step = sum(not in_step(*each) for each in zip(documents, *told, strict=True))
    unread = sum(unread_sources(house, job_id, before) for at, job_id in enumerate(ids) for before in ids[:at])
    loads = [Load(job_id, house.actor, documents, is_right=lambda _text, answer: answer is not None) for job_id in ids]
    found = [check(house.api, load) for load in loads]
    unaudited = sum(int((one.answered & (first_reads(house.api, load) == NEVER)).sum()) for one, load in zip(found, loads, strict=True))
    counters = Counters(
        lost=sum(one.lost for one in found),
        doubled=sum(one.doubled for one in found),
        wrong=sum(one.wrong for one in found) + out_of_step,
        unaudited=unaudited + unread,
        miscounted=sum(one.miscounted for one in found),
    )
    verdict(counters, steps=len(ids), rows=ROWS, open_when_killed="/".join(map(str, killed)), out_of_step=out_of_step, unread=unread)
    assert all(killed), "each step had rows to do when its workers died"
    assert 0 < sum(answer == SKIPPED for answer in told[1]) < ROWS


def answers(house: House, job_id: UUID) -> list[Any]:
    """By row; None of one that has none."""
    found: list[Any] = [None] * jobs.get_job(house.api, house.actor, job_id).row_count
    for line in iter_results(house.api, house.actor, job_id, which="output"):
        found[line.idx] = json.loads(line.payload or b"null")
    return found


def in_step(document: str, topic: Any, written: Any, mood: Any) -> bool:
    """Whether each step's answer is that to what the steps before said of this very row."""
    if topic is None or topic["label"] != expected_label(document, LABELS, ["{}"]):
        return False
    if topic["label"] not in CHOSEN:
        return bool(written == SKIPPED and mood == SKIPPED)
    return written != SKIPPED and mood["label"] == expected_label(written["choices"][0]["message"]["content"], LABELS, ["{}"])


def unread_sources(house: House, job_id: UUID, source_id: UUID) -> int:
    """Rows of a step without an event that says that the source's answer to them was read for it."""
    with house.api.transaction(tenant=house.actor.tenant_id) as conn:
        events = conn.execute(
            text(
                "SELECT first_idx, end_idx FROM audit_events WHERE job_id = :job AND object_id = :source AND action = 'results.read'"
                " AND component = 'worker' AND outcome = 'allowed'"
            ),
            {"job": job_id, "source": source_id},
        ).all()
    read = {idx for event in events for idx in range(event.first_idx, event.end_idx)}
    return len(set(range(ROWS)) - read)
