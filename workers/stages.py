"""Where the time of a job goes: seconds by stage, and how much of the lanes' time the job had. No I/O; the clock is passed in.

A shard's thread is in one stage at a time, but for ``model``: that is the lanes' time, shared out by tokens among the calls whose rows were
in a batch, so that it adds up to the time the lanes were busy. With several lanes it may pass the time that the thread waited for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STAGES: Final = ("open", "tokenise", "queue", "model", "seal", "commit")


@dataclass(slots=True)
class StageSeconds:
    """``open``: read the rows under the lease, open and parse them, resolve names. ``tokenise``: texts to ids. ``queue``: waiting for the
    micro-batcher while other rows ran. ``model``: this call's share of its batches' seconds. ``seal``: from the model's numbers to sealed
    answers. ``commit``: the transactions that write them."""

    open: float = 0.0
    tokenise: float = 0.0
    queue: float = 0.0
    model: float = 0.0
    seal: float = 0.0
    commit: float = 0.0

    def add(self, other: "StageSeconds") -> None:
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))

    def as_dict(self) -> dict[str, float]:
        """``{"open_seconds": …}``: how the sums are named in a job's metrics."""
        return {metric_of(stage): getattr(self, stage) for stage in STAGES}


def metric_of(stage: str) -> str:
    return f"{stage}_seconds"


def queued(waited_seconds: float, model_seconds: float) -> float:
    """What a call waited beyond its own rows' time on the lanes. None of it, where several lanes did more for it than it waited."""
    return max(0.0, waited_seconds - model_seconds)


def stage_seconds(metrics: Mapping[str, float]) -> dict[str, float]:
    """By stage, in the order of the work, from a job's metrics."""
    return {stage: metrics.get(metric_of(stage), 0.0) for stage in STAGES}
