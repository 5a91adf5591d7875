"""``/v1/batches/{id}/rows``: what became of one row, step by step."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request

from api.objects import MAX_IDX, Json, batch_id, parse_batch_id, seconds, to_json
from api.requests.auth import Reader
from api.requests.front import front_of
from api.requests.json_body import json_of
from api.wire import RowLine, RowStepLine
from db.errors import NotFound
from db.failures import describe
from db.jobs.row_story import NO_ROW, RowStep, find_row, row_story
from workers.tasks import TASKS
from workers.tasks.task import SKIPPED

router = APIRouter(prefix="/v1/batches")


class RowRequest(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: Annotated[
        str, msgspec.Meta(min_length=1, max_length=512, description="The row's own id: not in an address, for it is yours.")
    ]


@router.get("/{batch_id}/rows/{number}")
def by_number(request: Request, actor: Reader, batch_id: str, number: str) -> Json:
    """What became of a row, by its number among the rows of the file, from 1: of a chain step by step, with what each said."""
    if not number.isdecimal() or len(number) > 10 or not 0 < int(number) <= MAX_IDX:
        raise NotFound(NO_ROW)
    return _told(row_story(front_of(request).store, actor, parse_batch_id(batch_id), int(number) - 1), int(number))


@router.post("/{batch_id}/rows")
def by_id(request: Request, actor: Reader, batch_id: str, body: Annotated[RowRequest, Depends(json_of(RowRequest))]) -> Json:
    """The same of the row with this id."""
    store, job_id = front_of(request).store, parse_batch_id(batch_id)
    idx = find_row(store, actor, job_id, body.custom_id)
    return _told(row_story(store, actor, job_id, idx), idx + 1)


def _told(steps: Sequence[RowStep], number: int) -> Json:
    known = next((step.result for step in steps if step.result is not None), None)
    line, custom_id = (None, None) if known is None else (known.line, known.custom_id)
    return to_json(RowLine(row=number, line=line, custom_id=custom_id, steps=[_step(step) for step in steps]))


def _step(step: RowStep) -> RowStepLine:
    job, result = step.job, step.result
    status, code, message, answer = "open", None, None, None
    if result is not None and (result.payload is None or result.damaged):
        failure = describe(result.told_code)
        status, code, message = "failed", failure.code, failure.message
    elif result is not None and result.payload == SKIPPED:
        status = "skipped"
    elif result is not None and result.payload is not None:
        status, answer = "completed", TASKS[job.task].values(msgspec.Raw(result.payload))
    return RowStepLine(
        name=job.step_name,
        id=batch_id(job.job_id),
        endpoint=job.endpoint,
        model=None if result is None else result.model_version,
        status=status,
        answer=answer,
        code=code,
        message=message,
        claims=step.claims,
        crashes=step.crashes,
        errors=step.errors,
        worker=step.worker,
        at=seconds(step.at),
    )
