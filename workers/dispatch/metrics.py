"""What a dispatcher tells Prometheus: how its own rounds go, and, while it leads, how the work of all goes. Labels are states, classes,
tasks and codes: no id, no tenant, no name that somebody chose."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from db.operators.health import Health
from workers.exporter import FAILED_ROWS, ProcessRegistry, Shown

REGISTRY: Final = ProcessRegistry()
OF_THE_LEADER: Final[CollectorRegistry] = CollectorRegistry()
_counter = partial(Counter, registry=REGISTRY)
_of_all = partial(Gauge, registry=OF_THE_LEADER)

leading = Gauge("textmill_dispatcher_leads", "1 in the dispatcher that leads.", registry=REGISTRY)
jobs_ended = _counter("textmill_jobs_ended", "Jobs that ended, by how: completed, failed, cancelled, expired.", ["task", "outcome"])
failed_rows = _counter(*FAILED_ROWS)
published = _counter("textmill_messages_published", "Claim checks sent to the broker.")
broker_failures = _counter("textmill_broker_failures", "Publishes the broker did not take; workers find the shards by polling.")
reaped = _counter("textmill_leases_reaped", "Leases that ran out, and whose shards were offered again, halved or failed.")
duty_seconds = Histogram(
    "textmill_reconciler_duty_seconds",
    "Time of one pass of a duty.",
    ["duty"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60),
    registry=REGISTRY,
)
duty_failures = _counter("textmill_reconciler_duty_failures", "Passes of a duty that failed.", ["duty"])
step_failures = _counter(
    "textmill_dispatcher_step_failures",
    "Rounds of a step (cut, cancel, expire, finalize, offer) that failed, wholly or for a job.",
    ["step"],
)

broker_messages = _of_all("textmill_broker_messages", "Claim checks that wait in the broker.")
queue_shards = _of_all("textmill_queue_shards", "Shards of live jobs, by state: ready, leased, paused (ready, of a paused job).", ["state"])
backlog_rows = _of_all(
    "textmill_backlog_rows", "Rows without an outcome, of live jobs that are not paused, by class: interactive, bulk.", ["class"]
)
backlog_tenants = _of_all("textmill_backlog_tenants", "Tenants that have rows in the backlog, of jobs that are cut into shards.")
largest_backlog_rows = _of_all("textmill_backlog_largest_rows", "Rows in the backlog of the tenant with the most.")
oldest_ready_age = _of_all(
    "textmill_oldest_ready_shard_age_seconds", "How long the oldest shard that could run has been waiting, by class.", ["class"]
)
expired_leases = _of_all("textmill_expired_leases", "Leases that ran out and were not taken up yet.")
live_jobs = _of_all("textmill_live_jobs", "Jobs that have not ended, by state.", ["state"])
damaged_objects = _of_all(
    "textmill_damaged_objects", "Files, jobs and what else had a sealed value that did not open when it was read in the last seven days."
)
workers = _of_all("textmill_workers", "Workers by state: running, draining, drained, silent.", ["state"])

_shown = Shown(OF_THE_LEADER)
REGISTRY.register(_shown)


def observe_health(found: Health | None, damaged: int = 0) -> None:
    """Of all tenants together. None: this process does not lead any more, and knows nothing. ``damaged``: objects with such values."""
    _shown.on = found is not None
    if found is None:
        return
    for gauge in (live_jobs, workers):
        gauge.clear()  # a state that nothing is in any more
    for state, count in (("ready", found.ready), ("leased", found.leased), ("paused", found.paused)):
        queue_shards.labels(state).set(count)
    for of_class, backlog in found.backlog.items():
        backlog_rows.labels(of_class).set(backlog.rows)
        oldest_ready_age.labels(of_class).set(backlog.oldest_ready_seconds)
    backlog_tenants.set(found.tenants)
    largest_backlog_rows.set(found.largest_tenant_rows)
    expired_leases.set(found.expired_leases)
    damaged_objects.set(damaged)
    for state, count in found.jobs.items():
        live_jobs.labels(state).set(count)
    for state, count in found.workers.items():
        workers.labels(state).set(count)


def count_failed_rows(task: str, rows_by_code: Mapping[str, int]) -> None:
    for code, count in rows_by_code.items():
        failed_rows.labels(task, code).inc(count)


def count_ended_job(task: str, outcome: str) -> None:
    jobs_ended.labels(task, outcome).inc()
