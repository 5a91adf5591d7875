"""What the real model says to real texts while nothing is broken: what it must say of them under faults as well."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from api.demo.corpus import LABELS, load_articles
from db.actors import Actor
from db.connect import Store
from db.files import files
from db.jobs import jobs
from db.jobs.results import iter_results
from db.lifecycle import LIVE_JOBS
from tests.faults.soak.feeding import RealModel, send

MODEL: Final = RealModel("minilm-l6-v2", {"labels": list(LABELS)})
MIN_CHARS: Final = 40
MAX_CHARS: Final = 120
# A row is computed together with others than in the reference run, and float32 rounds otherwise then: by less than this.
CLEAR: Final = 1e-3
SPARE: Final = 1.2  # texts for every one that is needed: some have no clear winner
LIMIT_SECONDS: Final = 300.0


def real_texts(count: int) -> list[str]:
    """Sentences of news, no two alike."""
    found: dict[str, None] = {}
    for article in load_articles():
        for sentence in article.text.replace("\n", " ").split(". "):
            if MIN_CHARS <= len(sentence.strip()) <= MAX_CHARS:
                found[sentence.strip()] = None
        if len(found) >= count:
            break
    return list(found)[:count]


def clear_labels(answers: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """The label of each answer; None where the second best is too near."""
    labels: list[str | None] = []
    for answer in answers:
        best, second = sorted(answer["scores"].values(), reverse=True)[:2]
        labels.append(answer["label"] if best - second >= CLEAR else None)
    return labels


def run_reference(store: Store, actor: Actor, count: int, states: Callable[[list[UUID]], dict[UUID, str]]) -> tuple[list[str], list[str]]:
    """(texts, the label of each), as many as asked for. Nothing may be broken meanwhile."""
    texts = real_texts(round(count * SPARE))
    job_id = send(store, actor, texts, model=MODEL.name, defaults=MODEL.defaults)
    until = time.monotonic() + LIMIT_SECONDS
    while states([job_id])[job_id] in LIVE_JOBS:
        assert time.monotonic() < until, "the real model's reference run does not end"
        time.sleep(0.2)
    lines = list(iter_results(store, actor, job_id, which="output"))
    assert len(lines) == len(texts), f"{len(texts) - len(lines)} rows of the reference run have no answer"
    labels = clear_labels([msgspec.json.decode(line.payload or b"{}") for line in lines])
    file_id = jobs.get_job(store, actor, job_id).file_id
    for which in ("output", "errors"):
        jobs.delete_outputs(store, actor, job_id, which)
    files.delete_file(store, actor, file_id)
    clear = [(text, label) for text, label in zip(texts, labels, strict=True) if label is not None][:count]
    assert len(clear) == count, f"only {len(clear)} of {len(texts)} texts have a clear label"
    return [text for text, _ in clear], [label for _, label in clear]
