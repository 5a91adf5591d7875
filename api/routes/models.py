"""``/v1/models``: what a request may name as its model; the registry's, and the tenant's own heads."""

from collections import Counter

import msgspec
from fastapi import APIRouter, Request

from api.objects import Json, damage, list_object, seconds
from api.requests.auth import Watcher, refuse_without
from api.requests.front import front_of
from db.catalogue.heads import HeadRecord, find_head, list_heads
from db.errors import NotFound
from db.operators.fleet import ready_workers
from workers.models import registry
from workers.models.card import ModelCard
from workers.tasks.task import HEAD_PREFIX

router = APIRouter(prefix="/v1/models")


@router.get("")
def index(request: Request, actor: Watcher) -> Json:
    """What a request may name as its model: the registry's, the operator's own folders, and, for keys that may `read`, your heads."""
    store = front_of(request).store
    heads = list_heads(store, actor) if actor.may_read else []
    loaded = Counter(model for _, readiness in ready_workers(store) for model in readiness.loaded or ())
    models = [_registry_model(card, loaded[card.id]) for card in registry.all_models()]
    return list_object([*models, *map(_head_model, heads)], has_more=False)


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
            loaded = sum(model_id in (readiness.loaded or ()) for _, readiness in ready_workers(front_of(request).store))
            return _registry_model(card, loaded)
    raise _no_such_model()


def _no_such_model() -> NotFound:
    return NotFound("There is no such model; GET /v1/models lists those that are here.", code="model_not_found")


def _registry_model(card: ModelCard, loaded_by: int) -> Json:
    """``created`` is 0: the registry does not know when a model was made. ``damaged``: why an operator's own cannot be used. ``loaded_by``:
    how many workers have it loaded."""
    return {
        "id": card.id,
        "object": "model",
        "created": 0,
        "owned_by": card.upstream.partition("/")[0] or "textmill",
        "textmill": {
            "tasks": card.tasks,
            "licence": card.licence,
            "max_tokens": card.max_tokens or None,
            "languages": card.languages,
            "loaded_by": loaded_by,
            **({"damaged": card.damaged} if card.damaged else {}),
        },
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
