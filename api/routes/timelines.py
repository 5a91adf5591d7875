"""``/v1/batches/{id}/shards``: how a job went, shard by shard."""

from fastapi import APIRouter, Request

from api.objects import Json, parse_batch_id, seconds, to_json
from api.requests.auth import Watcher
from api.requests.front import front_of
from api.wire import ShardLine, StateTotal, Story, WorkerTotal
from db.jobs.timeline import ShardStory, job_story

router = APIRouter(prefix="/v1/batches")


@router.get("/{batch_id}/shards")
def story(request: Request, actor: Watcher, batch_id: str) -> Json:
    """How a job went: the shards that are not done or had a failed attempt, at most twenty, and the totals of all."""
    told = job_story(front_of(request).store, actor, parse_batch_id(batch_id))
    return to_json(
        Story(
            shards=[_shard(shard) for shard in told.shards],
            totals=[StateTotal(each.state, each.shards, each.rows, each.crashes, each.errors) for each in told.totals],
            workers=[WorkerTotal(each.worker, each.shards, each.rows) for each in told.workers],
        )
    )


def _shard(shard: ShardStory) -> ShardLine:
    return ShardLine(
        first_row=shard.first_idx,
        end_row=shard.end_idx,
        state=shard.state,
        epoch=shard.epoch,
        crashes=shard.crash_attempts,
        errors=shard.error_attempts,
        last_error=shard.last_error,
        worker=shard.last_worker,
        completed=shard.completed_count,
        failed=shard.failed_count,
        progressed_at=seconds(shard.progressed_at),
        lease_expires_at=seconds(shard.lease_expires_at),
        not_before=seconds(shard.not_before),
    )
