"""What a worker and a dispatcher tell Prometheus. Labels are tasks and registry models: no id, no tenant, no name that somebody chose."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from db.errors import SettingsError
from db.operators.health import Health
from workers.batches.outcomes import BatchReport
from workers.stages import STAGES, StageSeconds

HOST: Final = "127.0.0.1"

batches = Counter("textmill_batches", "Micro-batches run.", ["model"])
batch_rows = Counter("textmill_batch_rows", "Rows in micro-batches.", ["model"])
batch_tokens = Counter("textmill_batch_tokens", "Tokens in micro-batches, without padding.", ["model"])
padding_tokens = Counter("textmill_padding_tokens", "Tokens computed and thrown away.", ["model"])
budget_tokens = Counter("textmill_budget_tokens", "Tokens the micro-batches could have held.", ["model"])
batch_seconds = Histogram(
    "textmill_batch_seconds",
    "Time of one micro-batch on the device.",
    ["model"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20),
)
lane_busy_seconds = Counter("textmill_lane_busy_seconds", "Time in which lanes ran micro-batches, summed over the lanes.", ["model"])
lanes = Gauge(
    "textmill_lanes", "Instances of the model that run at once; with textmill_lane_busy_seconds_total, how busy the device is.", ["model"]
)
stage_seconds = Counter(
    "textmill_stage_seconds",
    "Time of shards by stage: open, tokenise, queue, model (the rows' share of the lanes' time), seal, commit.",
    ["stage", "task"],
)
rows = Counter("textmill_rows", "Rows that got their result.", ["task", "model", "outcome"])
shards = Counter("textmill_shards", "Shards this worker held, by how that ended.", ["task", "end"])
shard_seconds = Histogram(
    "textmill_shard_seconds", "Time from claim to the last write.", ["task"], buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 60, 180, 600)
)
claims = Counter("textmill_claims", "Claims of a shard.", ["by", "outcome"])
leases = Gauge("textmill_leases", "Shards in flight in this process.")
leases_lost = Counter("textmill_leases_lost", "Shards whose lease was gone before they were done: what was computed since is not stored.")
drains = Counter("textmill_drains", "Drains begun: by an operator, by a signal, by the memory ceiling, by a lost device.", ["why"])
planned_restarts = Counter("textmill_planned_restarts", "Ends at the memory ceiling; counted while the process drains.")
last_progress = Gauge(
    "textmill_last_progress_timestamp_seconds", "When this worker last ended a micro-batch, stored rows, or had nothing to do."
)
published = Counter("textmill_messages_published", "Claim checks sent to the broker.")
broker_failures = Counter("textmill_broker_failures", "Publishes the broker did not take; workers find the shards by polling.")
broker_messages = Gauge("textmill_broker_messages", "Claim checks that wait in the broker.")
queue_shards = Gauge("textmill_queue_shards", "Shards of live jobs, by state: ready, leased, paused (ready, of a paused job).", ["state"])
oldest_ready_age = Gauge("textmill_oldest_ready_shard_age_seconds", "How long the oldest shard that could run has been waiting.")
expired_leases = Gauge("textmill_expired_leases", "Leases that ran out and were not taken up yet.")
live_jobs = Gauge("textmill_live_jobs", "Jobs that have not ended, by state.", ["state"])
workers = Gauge("textmill_workers", "Workers by state: running, draining, drained, silent.", ["state"])
duty_seconds = Histogram(
    "textmill_reconciler_duty_seconds", "Time of one pass of a duty.", ["duty"], buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)
)
duty_failures = Counter("textmill_reconciler_duty_failures", "Passes of a duty that failed.", ["duty"])
step_failures = Counter(
    "textmill_dispatcher_step_failures",
    "Rounds of a step (cut, cancel, expire, finalize, offer) that failed, wholly or for a job.",
    ["step"],
)
reaped = Counter("textmill_leases_reaped", "Leases that ran out, and what became of the shard.")
leading = Gauge("textmill_dispatcher_leads", "1 in the dispatcher that leads.")


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


def observe_health(found: Health | None) -> None:
    """Of all tenants together. None: this process does not lead any more, and knows nothing."""
    for gauge in (queue_shards, live_jobs, workers):
        gauge.clear()  # a state that nothing is in any more
    if found is None:
        oldest_ready_age.set(0)
        expired_leases.set(0)
        return
    queue_shards.labels("ready").set(found.ready)
    queue_shards.labels("leased").set(found.leased)
    queue_shards.labels("paused").set(found.paused)
    oldest_ready_age.set(found.oldest_ready_seconds)
    expired_leases.set(found.expired_leases)
    for state, count in found.jobs.items():
        live_jobs.labels(state).set(count)
    for state, count in found.workers.items():
        workers.labels(state).set(count)


def serve(port: int) -> None:
    """Serves /metrics on the loopback address only: it is not authenticated. Raises SettingsError where the port is taken."""
    try:
        start_http_server(port, addr=HOST)
    except OSError:
        raise SettingsError(f"TEXTMILL_METRICS_PORT: port {port} on {HOST} is taken; each process needs one of its own.") from None
