"""The worker's runtime in a process of a benchmark's own: pinned and warm, as the machine's calibration chose or in fp32."""

from typing import Any

from db.settings import load
from tests.benchmarks.mill import ENCODER
from workers.settings import WorkerSettings


def open_runtime(*, exact: bool = False, observe: Any = None) -> tuple[Any, WorkerSettings]:
    """Call it before anything has imported torch: the process is pinned to its cores first, as a worker is."""
    settings = load(WorkerSettings)
    from workers.host.device import pin

    pinned = pin(settings.device, settings.lanes)
    settings = settings.model_copy(update={"device": pinned.device, **({"dtype": "exact"} if exact else {})})
    from workers.inference.runtime import Runtime

    runtime = Runtime(settings, observe=observe)
    runtime.warm([ENCODER])
    return runtime, settings
