"""What a worker tells Prometheus. Labels are tasks, registry models and codes: no id, no tenant, no name that somebody chose."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from workers.batches.outcomes import BatchReport
from workers.exporter import FAILED_ROWS, ProcessRegistry
from workers.stages import STAGES, StageSeconds

REGISTRY: Final = ProcessRegistry()
_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)

batches = _counter("textmill_batches", "Micro-batches run.", ["model"])
batch_rows = _counter("textmill_batch_rows", "Rows in micro-batches.", ["model"])
batch_tokens = _counter("textmill_batch_tokens", "Tokens in micro-batches, without padding.", ["model"])
padding_tokens = _counter("textmill_padding_tokens", "Tokens computed and thrown away.", ["model"])
budget_tokens = _counter("textmill_budget_tokens", "Tokens the micro-batches could have held.", ["model"])
batch_seconds = _histogram(
    "textmill_batch_seconds",
    "Time of one micro-batch on the device.",
    ["model"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20),
)
lane_busy_seconds = _counter("textmill_lane_busy_seconds", "Time in which lanes ran micro-batches, summed over the lanes.", ["model"])
lanes = _gauge(
    "textmill_lanes", "Instances of the model that run at once; with textmill_lane_busy_seconds_total, how busy the device is.", ["model"]
)
stage_seconds = _counter(
    "textmill_stage_seconds",
    "Time of shards by stage: open, tokenise, queue, model (the rows' share of the lanes' time), seal, commit.",
    ["stage", "task"],
)
rows = _counter("textmill_rows", "Rows that got their result.", ["task", "model", "outcome"])
failed_rows = _counter(*FAILED_ROWS)
shards = _counter("textmill_shards", "Shards this worker held, by how that ended.", ["task", "end"])
shard_seconds = _histogram(
    "textmill_shard_seconds", "Time from claim to the last write.", ["task"], buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 60, 180, 600)
)
claims = _counter("textmill_claims", "Claims of a shard.", ["by", "outcome"])
leases = _gauge("textmill_leases", "Shards in flight in this process.")
leases_lost = _counter("textmill_leases_lost", "Shards whose lease was gone before they were done: what was computed since is not stored.")
drains = _counter("textmill_drains", "Drains begun: by an operator, by a signal, by the memory ceiling, by a lost device.", ["why"])
planned_restarts = _counter("textmill_planned_restarts", "Ends at the memory ceiling; counted while the process drains.")
last_progress = _gauge(
    "textmill_last_progress_timestamp_seconds", "When this worker last ended a micro-batch, stored rows, or had nothing to do."
)


def observe_batch(model: str, report: BatchReport) -> None:
    batches.labels(model).inc()
    batch_rows.labels(model).inc(report.rows)
    batch_tokens.labels(model).inc(report.tokens)
    padding_tokens.labels(model).inc(report.padding_tokens)
    budget_tokens.labels(model).inc(report.budget_tokens)
    batch_seconds.labels(model).observe(report.seconds)
    lane_busy_seconds.labels(model).inc(report.seconds)
    lanes.labels(model).set(report.lanes)


def observe_stages(task: str, stages: StageSeconds) -> None:
    for stage in STAGES:
        if seconds := getattr(stages, stage):
            stage_seconds.labels(stage, task).inc(seconds)


def count_failed_rows(task: str, rows_by_code: Mapping[str, int]) -> None:
    for code, count in rows_by_code.items():
        failed_rows.labels(task, code).inc(count)
