"""``/v1/batches/{id}/table``: a job's results joined to the table that was uploaded."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request

from api.objects import parse_batch_id
from api.requests.auth import Reader, require
from api.requests.front import Front, front_of
from api.streams.downloads import Download, download
from api.streams.tables import MEDIA_TYPES, table_pieces
from db.jobs.jobs import watch_job
from workers.tasks import TASKS

MAX_COLUMNS = 10_000

router = APIRouter(prefix="/v1/batches")


@router.get("/{batch_id}/table")
async def table(
    request: Request,
    actor: Reader,
    batch_id: str,
    front: Annotated[Front, Depends(front_of)],
    format: Literal["jsonl", "csv", "parquet"] = "jsonl",
    columns: Annotated[list[str] | None, Query(max_length=MAX_COLUMNS)] = None,
    input: bool = True,
    unmask: bool = False,
) -> Download:
    """The rows of the file that was uploaded, in its order, each with what the job made of it behind its own columns.

    Of a column of ours that is called as one of the file's the name gets a `_2`. A row that failed has `error` and `message`. While the job
    runs the table goes as far as its first row that is not done yet. ``columns``, once for each: the names of those to give;
    `row`, `line` and `id` can be among them. ``input``: false leaves the file's columns out. ``unmask``: of a batch with `redact`, values
    in the place of masks in ours, for a key with that scope too.
    """
    if unmask:
        await require(request, actor, "unmask")
    store = front.store
    job_id = parse_batch_id(batch_id)

    def pieces() -> Iterator[bytes]:  # begun in a thread, before anything is sent
        job = watch_job(store, actor, job_id)
        yield from table_pieces(store, actor, job, TASKS[job.task], format, picked=columns, inputs=input, unmask=unmask)

    return await download(front, pieces(), media_type=MEDIA_TYPES[format])
