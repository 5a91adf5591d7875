"""Who is calling, and what the key allows. A route takes its actor from one of the annotated types at the end of this file.

Keys come in the Authorization header and nowhere else (:mod:`api.requests.addresses`). Denied accesses are recorded.
"""

from dataclasses import replace
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request

from api.objects import object_named
from api.requests.front import Front, front_of
from db.actors import Actor
from db.audit.acts import denied
from db.errors import Denied
from db.operators.api_keys import authenticate


class Needs:
    """A dependency: the actor of a key that holds at least one of ``scopes``.

    Raises Denied: 401 for a key that is missing, wrong, expired or revoked; 403 for a missing scope.
    """

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> Actor:
        front = front_of(request)
        presented = _presented(request)
        request_id, origin = request.state.request_id, request.client.host if request.client else None
        actor = front.keys.get(presented)
        if actor is None:
            ask = partial(_authenticate, front, presented, request_id=request_id, origin=origin, tried=_route_of(request))
            actor = await anyio.to_thread.run_sync(ask, limiter=front.store_calls)
        actor = replace(actor, request_id=request_id, origin=origin)
        if actor.scopes.isdisjoint(self.scopes):
            await anyio.to_thread.run_sync(refuse_without, request, actor, *self.scopes, limiter=front.store_calls)
        return actor


def refuse_without(request: Request, actor: Actor, *scopes: str) -> None:
    """Raises Denied, on record with what was tried, where the actor's key holds none of ``scopes``. Waits for the store."""
    if actor.scopes.isdisjoint(scopes):
        refusal = Denied(f"This key lacks the scope it takes here: {' or '.join(scopes)}.", code="missing_scope", status=403)
        found = (object_named(str(value)) for value in request.path_params.values())
        kind, id = next((named for named in found if named is not None), (None, None))
        store = front_of(request).store
        raise denied(refusal, store, actor, "scope.missing", tried=_route_of(request), object_kind=kind, object_id=id)


async def require(request: Request, actor: Actor, scope: str) -> None:
    """Of what a route gives to such a key alone. Raises Denied, on record."""
    if scope not in actor.scopes:
        await anyio.to_thread.run_sync(refuse_without, request, actor, scope, limiter=front_of(request).store_calls)


def _route_of(request: Request) -> str:
    """As it is documented, with none of what was sent: of an address a caller's name may be a part."""
    return f"{request.method} {getattr(request.scope.get('route'), 'path', '')}".replace(":path}", "}")


def _presented(request: Request) -> str:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if kind.lower() != "bearer" or not key:
        raise Denied("Send your API key as “Authorization: Bearer tm_…”.", code="missing_api_key", status=401)
    return key


def _authenticate(front: Front, presented: str, *, request_id: str, origin: str | None, tried: str) -> Actor:
    actor = authenticate(front.store, presented, request_id=request_id, origin=origin, tried=tried)
    front.keys.put(presented, actor)
    return actor


Submitter = Annotated[Actor, Depends(Needs("submit"))]
Reader = Annotated[Actor, Depends(Needs("read"))]
Watcher = Annotated[
    Actor, Depends(Needs("submit", "read"))
]  # sees what there is and how far it is; what its owner wrote into it, names too, takes `read`
Manager = Annotated[Actor, Depends(Needs("manage"))]
Auditor = Annotated[Actor, Depends(Needs("audit"))]
Administrator = Annotated[Actor, Depends(Needs("admin"))]
