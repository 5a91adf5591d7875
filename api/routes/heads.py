"""``/v1/heads``: classifiers trained on a tenant's own examples. Training is a job; ``head:<name>`` then names a model."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from api.objects import Json, batch_object, deleted_object, list_object, to_json
from api.requests.auth import Manager, Submitter, Watcher
from api.requests.batch_requests import HeadRequest, head_job
from api.requests.front import front_of
from api.requests.json_body import json_of
from api.routes.batches import create_once, idempotency_key_of
from api.wire import Head
from db.catalogue.heads import HeadRecord, delete_head, list_heads

router = APIRouter(prefix="/v1/heads")


@router.post("")
def train(request: Request, actor: Submitter, body: Annotated[HeadRequest, Depends(json_of(HeadRequest))]) -> Json:
    """Train a head: a job, whose end makes it."""
    store = front_of(request).store
    return batch_object(create_once(request, store, actor, head_job(store, actor, body, idempotency_key_of(request))))


@router.get("")
def index(request: Request, actor: Watcher) -> Json:
    """All heads, with how well they did."""
    return list_object([head_object(head) for head in list_heads(front_of(request).store, actor)], has_more=False)


@router.delete("/{name}")
def delete(request: Request, actor: Manager, name: str) -> Json:
    """Delete a head. Jobs that still name it fail row by row."""
    name = name.removeprefix("head:")
    delete_head(front_of(request).store, actor, name)
    return deleted_object(f"head:{name}", "head")


def head_object(head: HeadRecord) -> Json:
    told = Head(
        id=f"head:{head.name}",
        name=head.name,
        base=head.base,
        version=head.version,
        created_at=int(head.created_at.timestamp()),
        labels=head.card.get("labels", []),
        examples=head.card.get("examples", {}),
        metrics=head.card.get("metrics"),
    )
    return to_json(told)
