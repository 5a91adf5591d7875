"""``/metrics`` for Prometheus. Without a key, not audited, and for this machine alone unless a setting opens it."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from api.metrics import REGISTRY
from api.requests.front import front_of

OF_PROMETHEUS: Final = "x-prometheus-scrape-timeout-seconds"  # which it sends with each scrape
# What Prometheus and its kin, curl and browsers send for themselves. Proxies tell of whom they ask for by names of their own, and of these
# there are more every year: whoever sends anything else is taken for one.
OF_ONES_OWN: Final = frozenset(
    {
        *("host", "user-agent", "connection", "keep-alive", "te", "upgrade", "http2-settings", "authorization", OF_PROMETHEUS),
        *("accept", "accept-charset", "accept-encoding", "accept-language", "cache-control", "if-none-match", "if-modified-since"),
        *("cookie", "dnt", "origin", "pragma", "priority", "referer", "upgrade-insecure-requests"),
    }
)
OF_TRACES: Final = {"traceparent", "tracestate", "baggage"}  # Prometheus's, where it is traced itself; without it they are a proxy's
OF_BROWSERS: Final = "sec-"

router = APIRouter()


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus metrics of this process. 404 for other machines, and for what comes through a proxy, unless a setting opens it."""
    if not front_of(request).settings.metrics_from_anywhere and not _asks_here(request):
        raise HTTPException(404)
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _asks_here(request: Request) -> bool:
    """Whether somebody on this machine asks for themselves. That the connection comes from here says little: so do a proxy's. One that adds
    nothing to a request shows by the name that its own client asked for, or by HTTP/1.0, which nginx speaks behind it and nobody else."""
    from_here = request.client is not None and _is_loopback(request.client.host) and _is_loopback(request.headers.get("host", ""))
    return from_here and request.scope["http_version"] == "1.1" and _are_ones_own(request.headers)


def _are_ones_own(headers: Headers) -> bool:
    known = OF_ONES_OWN | OF_TRACES if OF_PROMETHEUS in headers else OF_ONES_OWN
    return all(header in known or header.startswith(OF_BROWSERS) for header in headers)


def _is_loopback(authority: str) -> bool:
    """Of a host, perhaps with a port."""
    try:
        host = urlsplit(f"//[{authority}]" if authority.count(":") > 1 and "[" not in authority else f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
