"""``/v1/files``: upload, list, show, read, delete; for uploaded files and for the output and error files of jobs."""

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from api.errors import Refused
from api.objects import (
    MAX_LISTED,
    Json,
    erased_object,
    file_not_found,
    file_object,
    file_ranges,
    list_object,
    parse_file_id,
    parse_line_id,
    result_file_object,
    result_files,
)
from api.requests.auth import Manager, Reader, Submitter, Watcher, require
from api.requests.front import Front, front_of
from api.streams.downloads import Download, download, input_lines, result_lines
from api.streams.sizes import Budget, size_of
from api.streams.uploads import receive_upload
from db.actors import Actor
from db.audit.acts import denied
from db.audit.events import about_job
from db.files.columns import table_of_file
from db.files.files import delete_file, get_file
from db.jobs.file_lists import ResultFile, find_files, list_files, result_file
from db.jobs.jobs import delete_outputs, get_job

MAX_FOUND = 10  # of those whose ids begin alike: enough to choose from

router = APIRouter(prefix="/v1/files")


@router.post("")
async def create(request: Request, actor: Submitter) -> Json:
    """Upload a file, as a form: its fields, then the part `file`."""
    return file_object(await receive_upload(request, actor))


@router.get("")
def index(
    request: Request,
    actor: Watcher,
    limit: Annotated[int, Query(ge=1)] = MAX_LISTED,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(pattern=r"^[a-z_-]{1,64}$")] = None,
    prefix: str | None = None,
) -> Json:
    """Uploaded files, and the output and error files of jobs that have ended (`purpose=batch_output`). With `prefix` alone: those whose ids
    begin so (at least 4 digits), a few of them."""
    last = None if after is None else parse_file_id(after)
    front = front_of(request)
    if prefix is not None:
        listed, has_more = find_files(front.store, actor, file_ranges(prefix), limit=MAX_FOUND), False
    else:
        listed, has_more = list_files(front.store, actor, limit=min(limit, MAX_LISTED), after=last, order=order, purpose=purpose)
    budget = Budget()
    data = [_result_file(front, actor, file, budget) if isinstance(file, ResultFile) else file_object(file) for file in listed]
    return list_object(data, has_more=has_more)


@router.get("/{file_id}")
def show(request: Request, actor: Watcher, file_id: str) -> Json:
    """One file; `file-o…` and `file-e…` are the output and error file of a job."""
    front, ref = front_of(request), parse_file_id(file_id)
    if ref.which is None:
        return file_object(get_file(front.store, actor, ref.id))
    job = get_job(front.store, actor, ref.id)
    if file_id not in result_files(job):
        raise file_not_found()
    return _result_file(front, actor, result_file(job, ref.which), Budget())


def _result_file(front: Front, actor: Actor, file: ResultFile, budget: Budget) -> Json:
    size = size_of(front, actor, file, budget)
    return result_file_object(file, size.bytes, exact=size.exact)


@router.get("/{file_id}/content")
async def content(
    request: Request,
    actor: Reader,
    file_id: str,
    front: Annotated[Front, Depends(front_of)],
    after: str | None = None,
    input: bool = False,
    unmask: bool = False,
) -> Download:
    """The rows of a file, or results, as JSON lines.

    While a job runs its results go as far as its first row that is not done yet; a file of it that has no row is empty, also after the end.
    ``after``: the id of a line of results, for a reader that was cut off, or comes again while the job runs: what follows is what it would
    have got. ``input``: each line of results with its row's body and other columns as they are kept, as `input`. ``unmask``: of a batch
    with `redact`, values in the place of masks, for a key with that scope too.
    """
    if unmask:
        await require(request, actor, "unmask")
    ref = parse_file_id(file_id)
    if ref.which is None:
        if after is not None:
            raise Refused("invalid_after", "Only results can be read from a line on.", param="after")
        return await download(front, input_lines(front.store, actor, ref.id))
    place = None if after is None else parse_line_id(after, ref.id)
    return await download(front, result_lines(front.store, actor, ref.id, ref.which, after=place, inputs=input, unmask=unmask))


@router.get("/{file_id}/columns")
def columns(request: Request, actor: Reader, file_id: str) -> Json:
    """What the columns of a file are called that was uploaded as a table (`purpose=rows`), and what they hold: `names` in order, `text`
    the one of the text. `names` is empty of a file that was none."""
    ref = parse_file_id(file_id)
    if ref.which is not None:
        raise file_not_found()
    store = front_of(request).store
    get_file(store, actor, ref.id)
    table = table_of_file(store, actor, ref.id)
    told: Json = {"form": "cells", "names": []} if table is None else msgspec.to_builtins(table)
    return {"object": "file.columns", "id": file_id, **told}


@router.delete("/{file_id}")
def delete(request: Request, response: Response, actor: Manager, file_id: str) -> Json:
    """Delete a file and its rows, or a job's output or error file: gone for everybody at once, and answered with 202 where the rows of a
    large one are still to be erased. 409 while a job still reads it."""
    store, ref = front_of(request).store, parse_file_id(file_id)
    if ref.which is None:
        gone = delete_file(store, actor, ref.id)
    else:
        if file_id not in result_files(get_job(store, actor, ref.id)):
            raise denied(file_not_found(), store, actor, f"results.delete.{ref.which}", **about_job(ref.id))
        gone = delete_outputs(store, actor, ref.id, ref.which)
    return erased_object(response, file_id, "file", gone=gone)
