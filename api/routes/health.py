"""``/healthz`` (the process answers), ``/readyz`` (the store does too). Without a key, and not audited: they tell nothing but that."""

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
    """The store answers too."""
    front_of(request).store.ask()
    return {"status": "ok"}
