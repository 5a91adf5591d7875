"""Every metric, from the objects that count."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

import api.metrics
import workers.dispatch.metrics
import workers.metrics
from api.reference.tables import table
from workers.exporter import ProcessRegistry

EVERY: Final = "Every process"
PARTS: Final[dict[str, CollectorRegistry]] = {
    EVERY: ProcessRegistry(),
    "The API": api.metrics.REGISTRY,
    "Workers": workers.metrics.REGISTRY,
    "The dispatcher": workers.dispatch.metrics.REGISTRY,
    "The dispatcher, while it leads": workers.dispatch.metrics.OF_THE_LEADER,
}


def part() -> str:
    return "\n\n".join(f"### {name}\n\n{table(('metric', 'kind', 'labels', 'meaning'), _rows(name))}" for name in PARTS)


def names(part: str) -> list[str]:
    """As Prometheus reads them; a histogram's has three endings there. What every process tells stands with EVERY alone."""
    return [name for name, _ in _named(part)]


def _named(part: str) -> Iterator[tuple[str, MetricWrapperBase]]:
    of_each = set() if part == EVERY else set(names(EVERY))
    for metric in PARTS[part]._collector_to_names:
        if isinstance(metric, MetricWrapperBase):
            [told] = metric.describe()
            name = f"{told.name}_total" if told.type == "counter" else told.name
            if name not in of_each:
                yield name, metric


def _rows(part: str) -> Iterator[tuple[str, str, str, str]]:
    for name, metric in _named(part):
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"`{name}`", str(metric._type), labels, metric._documentation
