"""What a job waits for, told to its owner: no worker, a model, its turn. Nothing of another tenant's shows in it."""

from collections.abc import Sequence
from typing import Final

from api.wire import WaitingFor
from db.actors import Actor
from db.connect import Store
from db.jobs.ahead import Ahead, jobs_ahead
from db.jobs.jobs import JobRecord
from db.operators.fleet import Readiness, WorkerState, ready_workers

IN_WORK: Final = WaitingFor("in_work", "a worker has it; no row is done yet")


def waiting_for(store: Store, actor: Actor, job: JobRecord) -> WaitingFor | None:
    """None where rows of it are done and others are being worked on, or it has ended or is paused."""
    job = next((step for step in job.steps if not step.ended), job)  # of a chain, the step whose turn it is
    if not _may_wait(job):
        return None
    ahead = Ahead(0, None) if _leased(job) else jobs_ahead(store, actor, job.job_id)
    return reason(job, ready_workers(store), ahead)


def reason(job: JobRecord, workers: Sequence[tuple[WorkerState, Readiness]], ahead: Ahead) -> WaitingFor | None:
    """What stands in its way, the greatest thing first. Pure."""
    if not _may_wait(job):
        return None
    ready = [readiness for state, readiness in workers if state == "running"]
    if not workers:
        return WaitingFor("no_worker", "no worker is running")
    if not ready:
        return WaitingFor("workers_drained", "every worker is drained")
    if job.model is not None and all(one.models is not None and job.model not in one.models for one in ready):
        return WaitingFor("no_worker_has_model", "no worker has this model")
    if ahead.jobs:
        about = "" if ahead.seconds is None else f" (about {_duration(ahead.seconds)})"
        return WaitingFor("behind", f"behind {ahead.jobs} job{'' if ahead.jobs == 1 else 's'} of yours{about}")
    if ahead.away_seconds is not None:
        return WaitingFor("model_away", f"what runs its model is away; it is asked again in {_duration(ahead.away_seconds)}")
    loading = [one.loading_seconds or 0.0 for one in ready if one.loading is not None and one.loading == job.model]
    if loading:
        return WaitingFor("loading", f"loading {job.model} ({max(loading):.0f} s)")
    return IN_WORK if _leased(job) else WaitingFor("turn", "waiting for its turn")


def _may_wait(job: JobRecord) -> bool:
    done = job.completed_count + job.failed_count
    return job.state in {"validating", "in_progress"} and not job.paused and done < job.row_count and not (done and _leased(job))


def _leased(job: JobRecord) -> bool:
    return job.shards.get("leased", 0) > 0


def _duration(seconds: float) -> str:
    """40 s, 5 min, 2 h: rounded up, for it is a guess."""
    for unit, size in (("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{-(-seconds // size):.0f} {unit}"
    return f"{max(1.0, -(-seconds // 1)):.0f} s"
