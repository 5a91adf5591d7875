"""``/v1/label_sets``: named lists of labels, with templates, for rows and defaults to name."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta

from api.errors import Refused
from api.objects import Json, damage, deleted_versions, list_object, seconds, to_json
from api.requests.auth import Manager, Reader
from api.requests.batch_requests import check_name
from api.requests.front import front_of
from api.requests.json_body import json_of
from api.wire import Version
from db.catalogue.label_sets import LabelSetRecord, delete_label_set, find_label_set, label_set_versions, list_label_sets, put_label_set
from db.errors import NotFound
from db.failures import describe, parts_of
from db.jobs.versions import address_of, name_of
from workers.tasks import classify
from workers.tasks.reading import check_defaults

router = APIRouter(prefix="/v1/label_sets")


class LabelSetRequest(msgspec.Struct, forbid_unknown_fields=True):
    labels: Annotated[list[str], Meta(description="At least two, each once.")]
    templates: Annotated[
        list[str] | None, Meta(description="Sentences with `{}` where the label goes, at most 32; otherwise the model's own.")
    ] = None
    descriptions: Annotated[
        dict[str, str] | None, Meta(description="By label, what is meant by it, in a sentence for a decoder; some labels may have none.")
    ] = None


@router.put("/{name}")
def put(request: Request, actor: Manager, name: str, body: Annotated[LabelSetRequest, Depends(json_of(LabelSetRequest))]) -> Json:
    """Make a set, or the next version of it; jobs that began with another go on with that."""
    check_name(name)
    code = check_defaults(classify.TASK, classify.TASK.endpoints[0], msgspec.structs.asdict(body))
    if code is not None:
        kind, field, _ = parts_of(code)
        raise Refused(
            kind, describe(code).message, param=next((one for one in ("templates", "descriptions") if field.startswith(one)), "labels")
        )
    return _object(put_label_set(front_of(request).store, actor, name, body.labels, body.templates, body.descriptions))


@router.get("")
def index(request: Request, actor: Reader) -> Json:
    """All label sets, with their labels: of each the newest version."""
    return list_object([_object(found) for found in list_label_sets(front_of(request).store, actor)], has_more=False)


@router.get("/{name}")
def show(request: Request, actor: Reader, name: str) -> Json:
    """One label set, as it is now or as `NAME@2` says, and its versions."""
    store = front_of(request).store
    found = find_label_set(store, actor, name)
    if found is None:
        raise NotFound("There is no label set of this name.")
    return {**_object(found), "versions": [_version(one) for one in label_set_versions(store, actor, name_of(name))]}


@router.delete("/{name}")
def delete(request: Request, actor: Manager, name: str) -> Json:
    """Delete a set with all its versions, or one of `NAME@2`. Jobs that began with it go on with it."""
    return deleted_versions(name, "label_set", delete_label_set(front_of(request).store, actor, name))


def _version(found: LabelSetRecord) -> Json:
    address, created_at = address_of(found.name or "", found.version), int(found.created_at.timestamp())
    told = Version(id=address, version=found.version, created_at=created_at, error=damage(found.damaged, found.created_at))
    return {**to_json(told), "labels": found.labels, "templates": found.templates, "descriptions": found.descriptions}


def _object(found: LabelSetRecord) -> Json:
    return {
        "id": found.name or found.label_set_id.hex,
        "object": "label_set",
        "name": found.name,
        "version": found.version,
        "labels": found.labels,
        "templates": found.templates,
        "descriptions": found.descriptions,
        "created_at": seconds(found.created_at),
        "error": msgspec.to_builtins(damage(found.damaged, found.created_at)),
    }
