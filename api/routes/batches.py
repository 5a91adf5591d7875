"""``/v1/batches``: a job as OpenAI's batch."""

from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from api.errors import Refused
from api.forecasts import Asked, answer_limit, foreseen, note_made, with_forecast, would_take
from api.objects import Json, batch_object, batch_range, list_object, parse_batch_id, to_json
from api.prices import read_prices
from api.requests.auth import Manager, Submitter, Watcher
from api.requests.batch_requests import BatchCheck, BatchRequest, FileSize, Planned
from api.requests.chain_requests import new_job, plan_request
from api.requests.front import Front, front_of
from api.requests.json_body import json_of
from api.waiting import waiting_for
from db.actors import Actor
from db.jobs.creating import NewJob, create_job, is_late, too_late
from db.jobs.jobs import list_jobs, watch_job
from db.jobs.steering import cancel_job

MAX_LISTED = 100
MAX_IDEMPOTENCY_CHARS = 255

router = APIRouter(prefix="/v1/batches")


@router.post("")
def create(request: Request, actor: Submitter, body: Annotated[BatchRequest, Depends(json_of(BatchRequest))]) -> Json:
    """Make a job over a file."""
    return make(request, actor, new_job(front_of(request).store, actor, body, idempotency_key_of(request)))


@router.post("/check")
def check(request: Request, actor: Submitter, body: Annotated[BatchCheck, Depends(json_of(BatchCheck))]) -> Json:
    """Whether a job could be made so, before its file is sent: refused as its making would be, or answered with its model; and with the
    `size` of its file, with what it would take. Nothing is made or kept."""
    front = front_of(request)
    steps = plan_request(front.store, actor, body)
    told = [plan_object(plan) for plan in steps]
    checked = told[-1] if body.steps is None else {**told[-1], "steps": told}
    return checked if body.size is None else {**checked, "forecast": forecast_object(front, actor, steps, body)}


def forecast_object(front: Front, actor: Actor, steps: list[Planned], body: BatchCheck) -> Json:
    """Raises Refused where it would be late and is not to be made then."""
    size = body.size or FileSize(rows=1, characters=1)
    asked = [Asked((plan.task.name, plan.model), answer_limit(plan.task.name, plan.defaults)) for plan in steps]
    backlog, prices = front.backlogs.of(front.store, actor.tenant_id), read_prices(front.settings.prices)
    told, promised = would_take(backlog, asked, size.rows, size.characters, steps[-1].priority, prices, front.settings.currency)
    late = is_late(promised, steps[-1].window)
    if late and body.if_late == "refuse":
        raise too_late(promised)
    return to_json(msgspec.structs.replace(told, late=late))


@router.get("")
def index(
    request: Request, actor: Watcher, limit: Annotated[int, Query(ge=1)] = 20, after: str | None = None, prefix: str | None = None
) -> Json:
    """Jobs, newest first; with `prefix` those whose ids begin so (at least 4 digits)."""
    last: UUID | None = None if after is None else parse_batch_id(after)
    within = None if prefix is None else batch_range(prefix)
    jobs, has_more = list_jobs(front_of(request).store, actor, limit=min(limit, MAX_LISTED), after=last, within=within)
    return list_object([batch_object(job) for job in jobs], has_more=has_more)


@router.get("/{batch_id}")
def show(request: Request, actor: Watcher, batch_id: str) -> Json:
    """One job, what it waits for, and when it will be done."""
    front = front_of(request)
    job = watch_job(front.store, actor, parse_batch_id(batch_id))
    return batch_object(job, waiting_for(front.store, actor, job), foreseen(front.backlogs, front.store, actor, job))


@router.post("/{batch_id}/cancel")
def cancel(request: Request, actor: Manager, batch_id: str) -> Json:
    """Cancel a job. What is done is kept."""
    front = front_of(request)
    cancelled = cancel_job(front.store, actor, parse_batch_id(batch_id))
    front.bell.ring()
    return batch_object(cancelled)


def plan_object(plan: Planned) -> Json:
    return {"object": "batch.check", "endpoint": plan.endpoint, "model": plan.model}


def make(request: Request, actor: Actor, new: NewJob) -> Json:
    """The new job, and when it will be done. A create that a client sends again (it saw a timeout, we may have seen the request) gives the
    job that is there already."""
    front = front_of(request)
    sent_again = request.headers.get("x-stainless-retry-count", "0") not in {"", "0"}
    chars_seen: list[int] = []
    find_twin = sent_again or idempotency_key_of(request) is not None
    made = create_job(front.store, actor, with_forecast(front.backlogs, front.store, actor, new, chars_seen), find_twin=find_twin)
    if chars_seen:  # else the same request had made it before
        note_made(front.backlogs, actor, made, chars_seen[-1])
    front.bell.ring()
    return batch_object(made, foreseen=foreseen(front.backlogs, front.store, actor, made))


def idempotency_key_of(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= MAX_IDEMPOTENCY_CHARS:
        raise Refused("invalid_idempotency_key", f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_CHARS} characters.")
    return key
