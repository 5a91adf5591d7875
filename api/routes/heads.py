"""``/v1/heads``: classifiers trained on a tenant's own examples. Training is a job; ``head:<name>`` then names a model."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from api.objects import Json, damage, deleted_versions, list_object, to_json
from api.requests.auth import Manager, Reader, Submitter
from api.requests.batch_requests import HeadPlan, HeadRequest, head_job, plan_head
from api.requests.front import front_of
from api.requests.json_body import json_of
from api.routes.batches import idempotency_key_of, make, plan_object
from api.wire import Head, Version
from db.catalogue.heads import HeadRecord, delete_head, find_head, head_versions, list_heads
from db.errors import NotFound
from db.jobs.versions import address_of, name_of
from workers.tasks.task import HEAD_PREFIX

router = APIRouter(prefix="/v1/heads")


@router.post("")
def train(request: Request, actor: Submitter, body: Annotated[HeadRequest, Depends(json_of(HeadRequest))]) -> Json:
    """Train a head: a job, whose end makes it; of a name that is there, its next version."""
    return make(request, actor, head_job(front_of(request).store, actor, body, idempotency_key_of(request)))


@router.post("/check")
def check(request: Request, actor: Submitter, body: Annotated[HeadPlan, Depends(json_of(HeadPlan))]) -> Json:
    """Whether a head could be trained so, before its examples are sent."""
    return plan_object(plan_head(front_of(request).store, actor, body))


@router.get("")
def index(request: Request, actor: Reader) -> Json:
    """All heads, with how well they did: of each the newest version."""
    return list_object([head_object(head) for head in list_heads(front_of(request).store, actor)], has_more=False)


@router.get("/{name}")
def show(request: Request, actor: Reader, name: str) -> Json:
    """One head, as it is now or as `NAME@2` says, and its versions."""
    store, address = front_of(request).store, name.removeprefix(HEAD_PREFIX)
    head = find_head(store, actor, address)
    if head is None:
        raise NotFound("There is no head of this name.")
    return head_object(head, head_versions(store, actor, name_of(address)))


@router.delete("/{name}")
def delete(request: Request, actor: Manager, name: str) -> Json:
    """Delete a head with all its versions, or one of `NAME@2`. Jobs that began with it go on with it."""
    name = name.removeprefix(HEAD_PREFIX)
    return deleted_versions(f"{HEAD_PREFIX}{name}", "head", delete_head(front_of(request).store, actor, name))


def head_object(head: HeadRecord, versions: Sequence[HeadRecord] | None = None) -> Json:
    """``versions``: all of them, where they were asked about."""
    told = Head(
        id=f"{HEAD_PREFIX}{head.name or head.model_id.hex}",
        name=head.name,
        base=head.base,
        version=head.version,
        digest=head.digest,
        created_at=int(head.created_at.timestamp()),
        labels=head.card.get("labels", []),
        examples=head.card.get("examples", {}),
        left_out=head.card.get("left_out", {}),
        metrics=head.card.get("metrics"),
        versions=None if versions is None else [_version(one) for one in versions],
        error=damage(head.damaged, head.created_at),
    )
    return to_json(told)


def _version(head: HeadRecord) -> Version:
    address = f"{HEAD_PREFIX}{address_of(head.name or '', head.version)}"
    return Version(
        id=address, version=head.version, created_at=int(head.created_at.timestamp()), error=damage(head.damaged, head.created_at)
    )
