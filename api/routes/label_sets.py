"""``/v1/label_sets``: named lists of labels, with templates, for rows and defaults to name."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta

from api.errors import Refused
from api.objects import Json, deleted_object, list_object, seconds
from api.requests.auth import Manager, Watcher
from api.requests.batch_requests import check_name
from api.requests.front import front_of
from api.requests.json_body import json_of
from db.catalogue.label_sets import LabelSetRecord, delete_label_set, find_label_set, list_label_sets, put_label_set
from db.errors import NotFound
from db.failures import describe, parts_of
from workers.tasks import classify
from workers.tasks.reading import check_defaults

router = APIRouter(prefix="/v1/label_sets")


class LabelSetRequest(msgspec.Struct, forbid_unknown_fields=True):
    labels: Annotated[list[str], Meta(description="At least two, each once.")]
    templates: Annotated[
        list[str] | None, Meta(description="Sentences with `{}` where the label goes, at most 32; otherwise the model's own.")
    ] = None


@router.put("/{name}")
def put(request: Request, actor: Manager, name: str, body: Annotated[LabelSetRequest, Depends(json_of(LabelSetRequest))]) -> Json:
    """Make a set or replace it; jobs that run take the new one from their next shard on."""
    check_name(name)
    code = check_defaults(classify.TASK, classify.TASK.endpoints[0], {"labels": body.labels, "templates": body.templates})
    if code is not None:
        kind, field, _ = parts_of(code)
        raise Refused(kind, describe(code).message, param="templates" if field.startswith("templates") else "labels")
    return _object(put_label_set(front_of(request).store, actor, name, body.labels, body.templates))


@router.get("")
def index(request: Request, actor: Watcher) -> Json:
    """All label sets, with their labels."""
    return list_object([_object(found) for found in list_label_sets(front_of(request).store, actor)], has_more=False)


@router.get("/{name}")
def show(request: Request, actor: Watcher, name: str) -> Json:
    """One label set."""
    found = find_label_set(front_of(request).store, actor, name)
    if found is None:
        raise NotFound("There is no label set of this name.")
    return _object(found)


@router.delete("/{name}")
def delete(request: Request, actor: Manager, name: str) -> Json:
    """Delete a set. Jobs that still name it fail row by row."""
    delete_label_set(front_of(request).store, actor, name)
    return deleted_object(name, "label_set")


def _object(found: LabelSetRecord) -> Json:
    return {
        "id": found.name,
        "object": "label_set",
        "name": found.name,
        "labels": found.labels,
        "templates": found.templates,
        "created_at": seconds(found.created_at),
    }
