"""The second table: other shapes of work (C2, C4, C8) through the whole system, with the worker's own figures of its micro-batches."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.local.home.instance import read_state
from tests.benchmarks.end_to_end import measure_whole
from tests.benchmarks.mill import Mill
from tests.benchmarks.turns import Run
from tests.benchmarks.workloads import Workload

HEAD = ("workload", "documents", "docs/s", "tok/s", "padding", "fill", "device busy")


@dataclass(frozen=True, slots=True)
class Shape:
    """``device_busy``: of the job's time and all cores, how much a lane was running a batch."""

    about: str
    run: Run
    tokens_per_second: float
    padding_share: float
    fill: float
    device_busy: float

    def row(self, name: str) -> tuple[str, ...]:
        return (
            f"{name}: {self.about}",
            f"{self.run.rows:,}",
            f"{self.run.rate:,.0f}",
            f"{self.tokens_per_second:,.0f}",
            f"{self.padding_share:.1%}",
            f"{self.fill:.0%}",
            f"{self.device_busy:.0%}",
        )


def measure_shape(mill: Mill, workload: Workload, cores: int) -> Shape:
    busy = batch_seconds(mill)
    run = measure_whole(mill, workload)
    busy = batch_seconds(mill) - busy
    return shape_of(workload.about, run, busy / (job_seconds(run) * cores))


def shape_of(about: str, run: Run, device_busy: float) -> Shape:
    metrics: Any = run.parts["metrics"]
    tokens, padding = metrics["tokens"], metrics["padding_tokens"]
    computed = tokens + padding
    return Shape(about, run, tokens / run.seconds, padding / computed, computed / metrics["budget_tokens"], device_busy)


def job_seconds(run: Run) -> float:
    return float(str(run.parts["job_seconds"]))


def batch_seconds(mill: Mill) -> float:
    """Summed time of all micro-batches so far, of all lanes of all workers."""
    addresses: Any = read_state(mill.stack.home).get("metrics", {})
    assert isinstance(addresses, Mapping)
    total = 0.0
    for name, address in addresses.items():
        if name.startswith("worker"):
            with urllib.request.urlopen(str(address), timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            total += sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("textmill_batch_seconds_sum"))
    return total
