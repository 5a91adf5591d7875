"""How a process shows its metrics: in a registry of its own, so that it tells of nothing that only another process knows."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.registry import Collector

from db.errors import SettingsError
from db.server.versions import SchemaFit

LOOPBACK: Final = "127.0.0.1"

# Of whichever process failed them: a worker, or the dispatcher where a row kills its workers or its job ends before it.
FAILED_ROWS: Final = (
    "textmill_failed_rows",
    "Rows that failed, by the code of their failure, in the process that failed them.",
    ("task", "code"),
)

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter and histogram, which nobody asks for


def own_version() -> str:
    try:
        return version("textmill")
    except PackageNotFoundError:
        return "source"


class ProcessRegistry(CollectorRegistry):
    """With what every process of ours tells: Python, the process, our version, and whether that fits the database."""

    def __init__(self) -> None:
        super().__init__()
        for of_each in (ProcessCollector, PlatformCollector, GCCollector):
            of_each(registry=self)
        build = Gauge("textmill_build_info", "1, labelled with the version that this process runs.", ["version"], registry=self)
        build.labels(own_version()).set(1)
        self._fits = Gauge(
            "textmill_schema_fits",
            "1 where this version works with the schema of the database, as the process's last transaction found it; 0 where it touches "
            "nothing there.",
            registry=self,
        )
        self._fits.set(1)  # nothing was found yet: a 0 would say so

    def tell_fit(self, schema: SchemaFit) -> None:
        """Of the process's store."""
        self._fits.set_function(lambda: float(schema.fits))


class Shown(Collector):
    """The metrics of ``registry`` while ``on``, and none else: a 0 of somebody who does not know reads like a fact."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.on = False
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect() if self.on else ()

    def describe(self) -> Iterable[Metric]:
        return self._registry.collect()


def serve(registry: CollectorRegistry, host: str, port: int) -> None:
    """Serves /metrics, to whoever reaches that address: it is not authenticated. Raises SettingsError where nothing can listen there."""
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise SettingsError(
            f"TEXTMILL_METRICS_PORT: nothing can listen on port {port} of {host} ({error.strerror}): each process needs a port of its own, "
            "and TEXTMILL_METRICS_HOST an address of this machine."
        ) from None
