"""Every metric, from the objects that count."""

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

import api.metrics
import workers.metrics
from api.reference.tables import table

PARTS: Final[dict[str, ModuleType]] = {"The API": api.metrics, "Workers and the dispatcher": workers.metrics}


def part() -> str:
    return "\n\n".join(f"### {name}\n\n{table(('metric', 'kind', 'labels', 'meaning'), _rows(module))}" for name, module in PARTS.items())


def names(module: ModuleType) -> list[str]:
    """As Prometheus reads them; a histogram's has three endings there."""
    return [name for name, _ in _named(module)]


def _named(module: ModuleType) -> Iterator[tuple[str, MetricWrapperBase]]:
    for metric in vars(module).values():
        if isinstance(metric, MetricWrapperBase):
            [told] = metric.describe()
            yield f"{told.name}_total" if told.type == "counter" else told.name, metric


def _rows(module: ModuleType) -> Iterator[tuple[str, str, str, str]]:
    for name, metric in _named(module):
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"`{name}`", str(metric._type), labels, metric._documentation
