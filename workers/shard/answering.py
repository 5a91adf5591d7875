"""From the rows of a group to their results: one call of the runtime, and the answers in the shapes that clients read.

A row that the model could not do, or whose numbers are not finite, becomes a failure; its neighbours get their answers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from db.jobs.results import COMPLETED, FAILED
from db.queue.results import NewResult
from workers.batches.outcomes import BatchShare, FailedRow
from workers.claims.lease import Held
from workers.engines.contract.engine import Message
from workers.inference.runtime import GenerateRequest, Runtime
from workers.shard.rows import Asked, Group
from workers.stages import StageSeconds
from workers.tasks import answers
from workers.tasks.requests import ClassifyRequest, EmbedRequest, GenerationRequest

NO_MODEL: Final = ""  # of a row that no model saw


@dataclass(slots=True)
class Chunk:
    """What a call of the runtime brought for some rows, and what it took: ``seconds`` for ``chars`` of row bodies; of the lanes' time,
    ``lanes`` of them for ``held_seconds``."""

    results: list[NewResult]
    share: BatchShare
    model: str
    model_version: str
    stages: StageSeconds = field(default_factory=StageSeconds)
    seconds: float = 0.0
    chars: int = 0
    began_at: float = 0.0  # of a monotonic clock
    ended_at: float = 0.0
    held_seconds: float = 0.0
    lanes: int = 0

    def metrics(self) -> dict[str, float] | None:
        """What is added to the shard's sums; None where no model ran."""
        if self.model == NO_MODEL:
            return None
        return {
            **self.share.as_dict(),
            **self.stages.as_dict(),
            "seconds": self.seconds,
            "chars": float(self.chars),
            "held_seconds": self.held_seconds,
            "lane_seconds": self.held_seconds * self.lanes,
        }


def answer_rows(runtime: Runtime, held: Held, group: Group, rows: Sequence[Asked]) -> Chunk:
    """Blocks until every row has its result. Raises what the runtime raises (Stopped, EngineBroken, TextmillError)."""
    match held.lease.task:
        case "classify":
            chunk = _classify(runtime, held, group, rows)
        case "embed":
            chunk = _embed(runtime, held, group, rows)
        case _:
            chunk = _generate(runtime, held, group, rows)
    chunk.lanes = runtime.lanes(group.model)
    return chunk


def failure(idx: int, code: str) -> NewResult:
    return NewResult(idx, FAILED, code, None, 0, 0)


def nothing_ran(results: list[NewResult]) -> Chunk:
    """Of rows that no model saw."""
    return Chunk(results, BatchShare(), NO_MODEL, NO_MODEL)


def _classify(runtime: Runtime, held: Held, group: Group, rows: Sequence[Asked]) -> Chunk:
    requests = [row.request for row in rows if isinstance(row.request, ClassifyRequest)]
    outcome = runtime.classify(
        group.model,
        [request.text for request in requests],
        [row.labels for row in rows],
        [row.templates for row in rows],
        group.head,
        long=[request.long for request in requests],
        stop=held,
        job=held.lease.job_id.bytes,
        interactive=held.lease.interactive,
        tenant=held.lease.tenant_id,
    )
    began = time.perf_counter()
    made: list[NewResult] = []
    forms: dict[int, answers.ClassificationForm] = {}  # by the labels' identity: rows with the same labels share their tuple
    for row, request, answer in zip(rows, requests, outcome.rows, strict=True):
        if isinstance(answer, FailedRow):
            made.append(failure(row.idx, answer.code))
            continue
        form = forms.get(id(answer.labels))
        if form is None:
            form = answers.ClassificationForm(model=group.named, model_version=outcome.model_version, labels=answer.labels)
            forms[id(answer.labels)] = form
        try:
            payload = form.fill(
                answer=answers.answer_id("cls_", held.lease.job_id, row.idx),
                winner=answer.winner,
                scores=answer.probabilities,
                extent=answers.Extent(answer.truncated, answer.chunks, request.long.pool),
                input_tokens=answer.input_tokens,
            )
        except answers.NotFinite:
            made.append(failure(row.idx, "non_finite_output"))
        else:
            made.append(NewResult(row.idx, COMPLETED, None, payload, answer.input_tokens, 0))
    outcome.stages.seal += time.perf_counter() - began
    return Chunk(made, outcome.share, group.model, outcome.model_version, outcome.stages)


def _embed(runtime: Runtime, held: Held, group: Group, rows: Sequence[Asked]) -> Chunk:
    requests = [row.request for row in rows if isinstance(row.request, EmbedRequest)]
    outcome = runtime.embed(
        group.model,
        [request.text for request in requests],
        long=[request.long for request in requests],
        stop=held,
        job=held.lease.job_id.bytes,
        interactive=held.lease.interactive,
        tenant=held.lease.tenant_id,
    )
    began = time.perf_counter()
    made: list[NewResult] = []
    for at, (row, request) in enumerate(zip(rows, requests, strict=True)):
        if at in outcome.failed:
            made.append(failure(row.idx, outcome.failed[at].code))
            continue
        try:
            payload = answers.embedding(
                model=group.named,
                model_version=outcome.model_version,
                vector=outcome.vectors[at],
                as_base64=request.base64,
                extent=answers.Extent(outcome.truncated[at], outcome.chunks[at], request.long.pool),
                input_tokens=outcome.tokens[at],
            )
        except answers.NotFinite:
            made.append(failure(row.idx, "non_finite_output"))
        else:
            made.append(NewResult(row.idx, COMPLETED, None, payload, outcome.tokens[at], 0))
    outcome.stages.seal += time.perf_counter() - began
    return Chunk(made, outcome.share, group.model, outcome.model_version, outcome.stages)


def _generate(runtime: Runtime, held: Held, group: Group, rows: Sequence[Asked]) -> Chunk:
    prompts = [_prompt(row.request) for row in rows if isinstance(row.request, GenerationRequest)]
    outcome = runtime.generate(group.model, prompts, stop=held, interactive=held.lease.interactive, tenant=held.lease.tenant_id)
    began = time.perf_counter()
    chat = held.lease.endpoint != "/v1/completions"
    shape = answers.chat_completion if chat else answers.text_completion
    now = int(time.time())
    made: list[NewResult] = []
    for row, answer in zip(rows, outcome.rows, strict=True):
        if isinstance(answer, FailedRow):
            made.append(failure(row.idx, answer.code))
            continue
        payload = shape(
            answer=answers.answer_id("chatcmpl_" if chat else "cmpl_", held.lease.job_id, row.idx),
            model=group.named,
            model_version=outcome.model_version,
            created=now,
            text=answer.text,
            finish_reason=answer.finish_reason,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )
        made.append(NewResult(row.idx, COMPLETED, None, payload, answer.input_tokens, answer.output_tokens))
    outcome.stages.seal += time.perf_counter() - began
    return Chunk(made, outcome.share, group.model, outcome.model_version, outcome.stages)


def _prompt(request: GenerationRequest) -> GenerateRequest:
    return GenerateRequest(
        messages=tuple(Message(message.role, message.content) for message in request.messages or ()),
        prompt=request.prompt,
        max_tokens=request.max_tokens,
        temperature=request.temperature or 0.0,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=request.seed,
        stop=tuple(request.stop),
    )
