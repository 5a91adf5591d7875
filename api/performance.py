"""How well the machine was used for a job, from what its workers counted. Pure: the numbers come with the batch object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.latencies import Kind, quantile
from workers.stages import stage_seconds

if TYPE_CHECKING:
    from api.wire import Batch


@dataclass(frozen=True, slots=True)
class Texts:
    """Of what a job has written so far. ``cached_share``: of the prompts' tokens, those that were computed for an earlier prompt.
    ``first_token``, ``next_token``: seconds within which half of the rows and 95 of 100 had theirs, about. While the job runs, these and
    the share are those of its last shards. None where they are not known."""

    answers: int
    tokens: int
    mean_tokens: float
    tokens_per_second: float | None = None
    cached_share: float | None = None
    first_token: tuple[float, float] | None = None
    next_token: tuple[float, float] | None = None


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
    texts: Texts | None = None

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
        texts=texts(batch),
    )


def texts(batch: "Batch") -> Texts | None:
    """None of a job that wrote none."""
    extras, counts, tokens = batch.textmill, batch.counts, batch.usage.output_tokens
    if not (tokens and counts.completed):
        return None
    if batch.ended:
        metrics, prompt_tokens, speed = extras.metrics or {}, float(batch.usage.input_tokens), _share(tokens, extras.run_seconds)
    else:
        metrics = extras.recent_metrics or {}
        prompt_tokens = metrics.get("prompt_tokens", 0.0)
        speed = _share((counts.total - counts.done) * tokens / counts.done, extras.eta_seconds)  # as its time left goes
    cached = _share(metrics.get("cached_tokens", 0.0), prompt_tokens)
    return Texts(
        answers=counts.completed,
        tokens=tokens,
        mean_tokens=tokens / counts.completed,
        tokens_per_second=speed,
        cached_share=None if cached is None else min(1.0, cached),
        first_token=_within(metrics, "first_token"),
        next_token=_within(metrics, "next_token"),
    )


def _within(metrics: Mapping[str, float], kind: Kind) -> tuple[float, float] | None:
    half, most = (quantile(metrics, kind, share) for share in (0.5, 0.95))
    return None if half is None or most is None else (half, most)


def padding_waste(metrics: Mapping[str, float]) -> float | None:
    """The share of computed tokens that belonged to no text."""
    return _share(metrics.get("padding_tokens", 0.0), metrics.get("tokens", 0.0) + metrics.get("padding_tokens", 0.0))


def mean_fill(metrics: Mapping[str, float]) -> float | None:
    """The share of the micro-batches' token budgets that was used."""
    return _share(metrics.get("tokens", 0.0) + metrics.get("padding_tokens", 0.0), metrics.get("budget_tokens", 0.0))


def _share(part: float, whole: float | None) -> float | None:
    return part / whole if whole else None
