"""The routes of what a tenant wrote for its jobs, named and in versions; each kind is a resource of its own beside this file."""

from collections.abc import Callable
from typing import Annotated, TypeVar

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
from db.catalogue.definitions import (
    DefinitionRecord,
    definition_versions,
    delete_definition,
    find_definition,
    list_definitions,
    put_definition,
)
from db.errors import NotFound
from db.jobs.versions import Kind, address_of, name_of
from workers.content.yaml_tree import Fault

Route = TypeVar("Route", bound=Callable[..., Json])


class DefinitionRequest(msgspec.Struct, forbid_unknown_fields=True):
    source: Annotated[str, Meta(description="The text as it was written; it is kept so, sealed, and read once to see whether it can be.")]


def router_of(kind: Kind, path: str, one: str, check: Callable[[str], object]) -> APIRouter:
    """``one``: what sentences call one; ``check``: of its source, raises Fault."""
    router = APIRouter(prefix=path)

    @router.put("/{name}")
    @_about(f"Make a {one}, or its next version; jobs that began with another go on with that.")
    def put(request: Request, actor: Manager, name: str, body: Annotated[DefinitionRequest, Depends(json_of(DefinitionRequest))]) -> Json:
        check_name(name)
        try:
            check(body.source)
        except Fault as fault:
            raise Refused("invalid_definition", str(fault), param="source") from None
        return _object(kind, put_definition(front_of(request).store, actor, kind, name, body.source))

    @router.get("")
    @_about(f"Of each {one} the newest version.")
    def index(request: Request, actor: Reader) -> Json:
        found = list_definitions(front_of(request).store, actor, kind)
        return list_object([_object(kind, record) for record in found], has_more=False)

    @router.get("/{name}")
    @_about(f"One {one}, as it is now or as `NAME@2` says, and its versions.")
    def show(request: Request, actor: Reader, name: str) -> Json:
        store = front_of(request).store
        found = find_definition(store, actor, kind, name)
        if found is None:
            raise NotFound(f"There is no {one} of this name.")
        return {**_object(kind, found), "versions": [_version(each) for each in definition_versions(store, actor, kind, name_of(name))]}

    @router.delete("/{name}")
    @_about(f"Delete a {one} with all its versions, or one of `NAME@2`. Jobs that began with it go on with it.")
    def delete(request: Request, actor: Manager, name: str) -> Json:
        return deleted_versions(name, kind.word, delete_definition(front_of(request).store, actor, kind, name))

    return router


def _about(told: str) -> Callable[[Route], Route]:
    """What the reference says of it."""

    def put(route: Route) -> Route:
        route.__doc__ = told
        return route

    return put


def _version(found: DefinitionRecord) -> Json:
    address, created_at = address_of(found.name or "", found.version), int(found.created_at.timestamp())
    return to_json(Version(id=address, version=found.version, created_at=created_at, error=damage(found.damaged, found.created_at)))


def _object(kind: Kind, found: DefinitionRecord) -> Json:
    return {
        "id": found.name or found.definition_id.hex,
        "object": kind.word,
        "name": found.name,
        "version": found.version,
        "source": found.source,
        "created_at": seconds(found.created_at),
        "error": msgspec.to_builtins(damage(found.damaged, found.created_at)),
    }
