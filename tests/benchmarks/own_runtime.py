"""The worker's runtime in a process of a benchmark's own: pinned and warm, as the machine's calibration chose or in fp32."""

from dataclasses import replace
from typing import Any

from tests.benchmarks.mill import ENCODER
from workers.settings import WorkerSettings, load


def open_runtime(*, exact: bool = False, observe: Any = None) -> tuple[Any, WorkerSettings]:
    """Call it before anything has imported torch: the process is pinned to its cores first, as a worker is."""
    settings = load(WorkerSettings)
    from workers.device import pin

    pinned = pin(settings.device, settings.lanes)
    settings = settings.model_copy(update={"device": pinned.device, **_exact_setting(exact)})
    if exact and not _exact_setting(exact):
        _plan_fp32()
    from workers.runtime import Runtime

    runtime = Runtime(settings, observe=observe)
    runtime.warm([ENCODER])
    return runtime, settings


def _exact_setting(exact: bool) -> dict[str, object]:
    """The setting by which a worker is told to run fp32."""
    return {"exact": True} if exact and "exact" in WorkerSettings.model_fields else {}


def _plan_fp32() -> None:
    """Where there is no such setting, the plan that the engine is loaded by is changed."""
    from workers.engines import loading

    planned = loading.plan

    def plan_fp32(*arguments: Any, **options: Any) -> Any:
        return replace(planned(*arguments, **options), format="float32")

    loading.plan = plan_fp32  # type: ignore[assignment]
