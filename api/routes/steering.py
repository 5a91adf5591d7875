"""``/v1/batches/{id}/…``: what OpenAI's batch does not know: pause, resume, retry, priority, and deleting one."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from api.objects import Json, batch_object, erased_object, parse_batch_id
from api.requests.auth import Manager
from api.requests.batch_requests import MAX_PRIORITY
from api.requests.front import front_of
from api.requests.json_body import json_of
from db.actors import Actor
from db.connect import Store
from db.jobs import steering
from db.jobs.jobs import JobRecord

router = APIRouter(prefix="/v1/batches")


class PriorityRequest(msgspec.Struct, forbid_unknown_fields=True):
    priority: Annotated[
        int, msgspec.Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher goes first, among your own jobs; 0 is where they begin.")
    ]


@router.post("/{batch_id}/pause")
def pause(request: Request, actor: Manager, batch_id: str) -> Json:
    """Begin nothing more of it. What is with a model is finished; its deadline goes on."""
    return _steer(request, actor, batch_id, steering.pause_job)


@router.post("/{batch_id}/resume")
def resume(request: Request, actor: Manager, batch_id: str) -> Json:
    """Go on with a paused job."""
    return _steer(request, actor, batch_id, steering.resume_job)


@router.post("/{batch_id}/retry")
def retry(request: Request, actor: Manager, batch_id: str) -> Json:
    """Run the rows again that failed, and those that never ran, of a job that has ended. Answers are kept, its window begins anew."""
    return _steer(request, actor, batch_id, steering.retry_job)


@router.post("/{batch_id}/priority")
def put_in_order(
    request: Request, actor: Manager, batch_id: str, body: Annotated[PriorityRequest, Depends(json_of(PriorityRequest))]
) -> Json:
    """Put a job before or behind your others, while it runs too."""
    return _steer(request, actor, batch_id, lambda store, who, job_id: steering.set_priority(store, who, job_id, body.priority))


@router.delete("/{batch_id}")
def delete(request: Request, response: Response, actor: Manager, batch_id: str) -> Json:
    """Delete a job in whatever state, with its results: gone for everybody at once, and answered with 202 where the rows of a large one are
    still to be erased. Its file stays."""
    gone = steering.delete_job(front_of(request).store, actor, parse_batch_id(batch_id))
    return erased_object(response, batch_id, "batch", gone=gone)


def _steer(request: Request, actor: Actor, batch_id: str, ask: Callable[[Store, Actor, UUID], JobRecord]) -> Json:
    front = front_of(request)
    asked = ask(front.store, actor, parse_batch_id(batch_id))
    front.bell.ring()
    return batch_object(asked)
