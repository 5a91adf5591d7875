"""How well the machine was used for a job, from what its workers counted. Pure: the numbers come with the batch object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.stages import stage_seconds

if TYPE_CHECKING:
    from api.wire import Batch


@dataclass(frozen=True, slots=True)
class Performance:
    """None where it is not known: before a job has ended, or where no model ran. Shares are from 0 to 1.

    ``run_seconds``: from the job's start to its last row. ``device_busy``: the lanes' time that went into this job, of what they had while
    a worker held its shards. ``bare_share``: the same, of the whole run, so that waiting for a worker counts: the speed as a share of what
    the model does by itself. ``stages``: seconds by stage, see :mod:`workers.stages`; all zero is empty.
    """

    rows: int
    run_seconds: float | None = None
    rows_per_second: float | None = None
    tokens_per_second: float | None = None
    fill: float | None = None
    padding_waste: float | None = None
    duplicate_rows: int = 0
    lanes: float | None = None
    device_busy: float | None = None
    bare_share: float | None = None
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def stage_shares(self) -> dict[str, float]:
        """Of the sum over the stages."""
        total = sum(self.stages.values())
        return {stage: seconds / total if total else 0.0 for stage, seconds in self.stages.items()}


def performance(batch: "Batch") -> Performance:
    metrics, run_seconds = batch.textmill.metrics or {}, batch.textmill.run_seconds
    stages = stage_seconds(metrics)
    model_seconds, lane_seconds, held_seconds = (metrics.get(name, 0.0) for name in ("model_seconds", "lane_seconds", "held_seconds"))
    lanes = _share(lane_seconds, held_seconds)
    return Performance(
        rows=batch.counts.done,
        run_seconds=run_seconds,
        rows_per_second=_share(batch.counts.done, run_seconds),
        tokens_per_second=_share(metrics.get("tokens", 0.0), run_seconds),
        fill=mean_fill(metrics),
        padding_waste=padding_waste(metrics),
        duplicate_rows=round(metrics.get("duplicate_rows", 0.0)),
        lanes=lanes,
        device_busy=_share(model_seconds, lane_seconds),
        # Several workers hold shards of one job at the same time: then they held it for longer than it ran.
        bare_share=None if lanes is None or run_seconds is None else _share(model_seconds, lanes * max(run_seconds, held_seconds)),
        stages=stages if any(stages.values()) else {},
    )


def padding_waste(metrics: Mapping[str, float]) -> float | None:
    """The share of computed tokens that belonged to no text."""
    return _share(metrics.get("padding_tokens", 0.0), metrics.get("tokens", 0.0) + metrics.get("padding_tokens", 0.0))


def mean_fill(metrics: Mapping[str, float]) -> float | None:
    """The share of the micro-batches' token budgets that was used."""
    return _share(metrics.get("tokens", 0.0) + metrics.get("padding_tokens", 0.0), metrics.get("budget_tokens", 0.0))


def _share(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None
