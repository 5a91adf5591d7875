"""``/metrics`` for Prometheus. Without a key, not audited, and for the loopback address only unless a setting opens it."""

import ipaddress

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from api.metrics import REGISTRY
from api.requests.front import front_of

router = APIRouter()


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics of this process. 404 for other machines, unless a setting opens it."""
    if not front_of(request).settings.metrics_from_anywhere and not _is_local(request):
        raise HTTPException(404)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
