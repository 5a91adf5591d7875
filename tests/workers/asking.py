"""Asks a runtime about texts as a shard does, without a store: rows are made, run by their task, and their answers read."""

import json
import threading
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from db.actors import Lease
from db.catalogue.heads import Head
from db.connect import Store
from db.queue.row import WorkRow
from workers.batches.outcomes import BatchShare
from workers.batches.ticket import Ticket
from workers.engines.contract.generation import GenerateRequest
from workers.engines.contract.long_texts import Long
from workers.inference.runtime import Runtime
from workers.models import registry
from workers.stages import StageSeconds
from workers.tasks import TASKS
from workers.tasks.classify.task import ClassifyBody
from workers.tasks.embed.task import EmbedBody
from workers.tasks.generate.body import GenerateAsk
from workers.tasks.generate.chat import ChatBody
from workers.tasks.reading import Reader
from workers.tasks.task import Group, Ran, Work

JOB = UUID(int=1)
CHAT = "/v1/chat/completions"
CUT = Long()


def run(
    runtime: Runtime,
    task: str,
    model: str,
    asks: Sequence[object],
    ticket: Ticket | None = None,
    *,
    head: Head | None = None,
    endpoint: str | None = None,
    group: Group | None = None,
    spec: dict[str, Any] | None = None,
) -> tuple[Ran, list[WorkRow]]:
    """One call of the model."""
    rows = [WorkRow(at, ask=ask) for at, ask in enumerate(asks)]
    lease = Lease(UUID(int=2), UUID(int=3), JOB, UUID(int=4), 1, 0, len(rows), task, endpoint or TASKS[task].endpoints[0], model, None)
    work = Work(cast(Store, None), lease, ticket or Ticket(), spec or {}, runtime)
    group = group or Group(model, registry.get(model), head)
    if not TASKS[task].streams:
        return TASKS[task].run(work, group, rows), rows
    whole = Ran("", BatchShare(), StageSeconds())
    for ran in TASKS[task].stream(work, group, rows, 60.0, lambda: False):
        whole = replace(ran, share=whole.share, stages=whole.stages, rows=[*whole.rows, *ran.rows])
        whole.share.add(ran.share)
        whole.stages.add(ran.stages)
    return whole, rows


def classify(
    runtime: Runtime,
    model: str,
    texts: Sequence[str],
    labels: Sequence[list[str] | None],
    templates: Sequence[list[str] | None] | None = None,
    *,
    long: Sequence[Long] | None = None,
    head: Head | None = None,
    stop: threading.Event | None = None,
    job: bytes | None = None,
    tenant: Hashable = None,
    interactive: bool = False,
) -> tuple[Ran, list[WorkRow]]:
    asks = [
        ClassifyBody(input=text, labels=own, templates=form, on_long=on.on_long, pool=on.pool, stride=on.stride)
        for text, own, form, on in zip(texts, labels, templates or [None] * len(texts), long or [CUT] * len(texts), strict=True)
    ]
    return run(runtime, "classify", model, asks, Ticket(stop, tenant, job, interactive), head=head)


def asking(request: GenerateRequest) -> GenerateAsk:
    """What a row asks with one prompt for one answer."""
    return GenerateAsk(None, [request], 1, ChatBody())


def generate(
    runtime: Runtime,
    bodies: Sequence[dict[str, Any]],
    endpoint: str = CHAT,
    model: str = "fake-decoder",
    spec: dict[str, Any] | None = None,
) -> list[WorkRow]:
    """What bodies that ask for something possible are answered. ``spec``: of their job, beside the defaults."""
    reader = Reader(TASKS["generate"], endpoint, {})
    asks = [reader.ask(json.dumps(body).encode()) for body in bodies]
    assert not [ask for ask in asks if isinstance(ask, str)], asks
    return run(runtime, "generate", model, asks, endpoint=endpoint, spec=spec)[1]


def embed(
    runtime: Runtime, model: str, texts: Sequence[str], *, long: Sequence[Long] | None = None, job: bytes | None = None
) -> tuple[Ran, list[WorkRow]]:
    asks = [
        EmbedBody(input=text, on_long=on.on_long, pool=on.pool, stride=on.stride)
        for text, on in zip(texts, long or [CUT] * len(texts), strict=True)
    ]
    return run(runtime, "embed", model, asks, Ticket(job=job))


def body_of(row: WorkRow) -> Any:
    """The answer's JSON; None of a row that failed."""
    return None if row.payload is None else json.loads(row.payload)


def label_of(row: WorkRow) -> str | None:
    """The label, or None where the row failed."""
    body = body_of(row)
    return None if body is None else body["label"]


def vector_in(row: WorkRow) -> list[float]:
    vector: list[float] = body_of(row)["data"][0]["embedding"]
    return vector
