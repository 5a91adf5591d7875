"""Who is calling, and what the key allows. A route takes its actor from one of the annotated types at the end of this file.

Keys come in the Authorization header and nowhere else (:mod:`api.requests.addresses`). Denied accesses are recorded.
"""

from dataclasses import replace
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, Request

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
            actor = await anyio.to_thread.run_sync(_authenticate, front, presented, request_id, origin, limiter=front.store_calls)
        actor = replace(actor, request_id=request_id, origin=origin)
        if actor.scopes.isdisjoint(self.scopes):
            await anyio.to_thread.run_sync(refuse_without, front, actor, *self.scopes, limiter=front.store_calls)
        return actor


def refuse_without(front: Front, actor: Actor, *scopes: str) -> None:
    """Raises Denied, on record, where the actor's key holds none of ``scopes``. Waits for the store."""
    if actor.scopes.isdisjoint(scopes):
        refusal = Denied(f"This key lacks the scope it takes here: {' or '.join(scopes)}.", code="missing_scope", status=403)
        raise denied(refusal, front.store, actor, "scope.missing")


def _presented(request: Request) -> str:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    key = key.strip()
    if kind.lower() != "bearer" or not key:
        raise Denied("Send your API key as “Authorization: Bearer tm_…”.", code="missing_api_key", status=401)
    return key


def _authenticate(front: Front, presented: str, request_id: str, origin: str | None) -> Actor:
    actor = authenticate(front.store, presented, request_id=request_id, origin=origin)
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
