"""``/healthz`` (the process answers), ``/readyz`` (the store does too, and fits). Without a key, and not audited: they tell no more."""

from fastapi import APIRouter, Request

from api.objects import Json
from api.requests.front import front_of

router = APIRouter()


@router.get("/healthz")
async def alive() -> Json:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(request: Request) -> Json:
    """The store answers too, and its schema is one that this version works with."""
    front_of(request).store.ask()
    return {"status": "ok"}
