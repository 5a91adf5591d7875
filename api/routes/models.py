"""``/v1/models``: what a request may name as its model; the registry's, and the tenant's own heads."""

import msgspec
from fastapi import APIRouter, Request

from api.objects import Json, damage, list_object, seconds
from api.requests.auth import Watcher, refuse_without
from api.requests.front import front_of
from db.catalogue.heads import HeadRecord, find_head, list_heads
from db.errors import NotFound
from workers.models import registry
from workers.models.card import ModelCard
from workers.tasks.task import HEAD_PREFIX

router = APIRouter(prefix="/v1/models")


@router.get("")
def index(request: Request, actor: Watcher) -> Json:
    """What a request may name as its model: the registry's, the operator's own folders, and, for keys that may `read`, your heads."""
    heads = list_heads(front_of(request).store, actor) if actor.may_read else []
    return list_object([*map(_registry_model, registry.all_models()), *map(_head_model, heads)], has_more=False)


@router.get("/{model_id:path}")
def show(request: Request, actor: Watcher, model_id: str) -> Json:
    """One model; a head for keys that may `read`."""
    if model_id.startswith(HEAD_PREFIX):
        refuse_without(request, actor, "read")
        head = find_head(front_of(request).store, actor, model_id.removeprefix(HEAD_PREFIX))
        if head is not None:
            return _head_model(head)
        raise _no_such_model()
    for card in registry.all_models():
        if card.id == model_id:
            return _registry_model(card)
    raise _no_such_model()


def _no_such_model() -> NotFound:
    return NotFound("There is no such model; GET /v1/models lists those that are here.", code="model_not_found")


def _registry_model(card: ModelCard) -> Json:
    """``created`` is 0: the registry does not know when a model was made. ``damaged``: why an operator's own cannot be used."""
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": card.upstream.partition("/")[0] or "textmill",
        "textmill": {"tasks": card.tasks, "licence": card.licence, "max_tokens": card.max_tokens or None, "languages": card.languages}
        | ({"damaged": card.damaged} if card.damaged else {}),
    }


def _head_model(head: HeadRecord) -> Json:
    return {
        "id": f"{HEAD_PREFIX}{head.name or head.model_id.hex}",
        "object": "model",
        "created": seconds(head.created_at),
        "owned_by": "tenant",
        "textmill": {
            "tasks": ["classify"],
            "base": head.base,
            "version": head.version,
            "digest": head.digest,
            "error": msgspec.to_builtins(damage(head.damaged, head.created_at)),
        },
    }
