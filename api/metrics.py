"""What the front tells Prometheus. Labels are methods, route templates and statuses: bounded, and nothing that somebody chose."""

from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from workers.exporter import ProcessRegistry

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REGISTRY: Final = ProcessRegistry()
_counter = partial(Counter, registry=REGISTRY)

requests = _counter("textmill_http_requests", "Requests answered.", ["method", "route", "status"])
request_seconds = Histogram(
    "textmill_http_request_seconds",
    "Time from the request's head to the end of the answer.",
    ["method", "route"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
    registry=REGISTRY,
)
uploads_in_flight = Gauge("textmill_uploads_in_flight", "Uploads being parsed.", registry=REGISTRY)
uploaded_rows = _counter("textmill_uploaded_rows", "Rows taken in, by whether they can be run.", ["format", "fit"])
uploaded_bytes = _counter("textmill_uploaded_bytes", "Bytes of uploaded files.")
rows_read = _counter("textmill_rows_read", "Rows of files and results that left.", ["kind"])


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    requests.labels(method, route, str(status)).inc()
    request_seconds.labels(method, route).observe(seconds)
