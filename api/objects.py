"""Files, batches and lists as the OpenAI client reads them. What is absent is null, never ""; times are whole seconds.

The output and error files of a job are not stored: ``file-o<hex of the job>`` and ``file-e<hex of the job>`` are read from its results.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from fastapi import Response

from api.errors import Refused
from api.forecasts import NOT_ASKED, Foreseen, eta_seconds, open_rows
from api.job_warnings import late_warnings, warnings_of
from api.wire import Batch, BatchFault, BatchFaults, Budget, Extras, Fault, FileInfo, RowCounts, StepState, Usage, WaitingFor
from db.audit.damage import DAMAGED
from db.catalogue.deleting import Deleted
from db.errors import NotFound
from db.failures import describe
from db.files.files import FileRecord
from db.id_ranges import LEAST_DIGITS, IdRange
from db.jobs.erasing import Which
from db.jobs.file_lists import PURPOSE as RESULTS_PURPOSE
from db.jobs.file_lists import Named, ResultFile
from db.jobs.jobs import JobRecord
from db.jobs.results import Place
from db.moments import is_known

Json = dict[str, object]

MAX_LISTED: Final = 1_000
MAX_IDX: Final = 2**31 - 1  # of a row: an integer of the store

_FILE: Final = re.compile(r"file-([oe]?)([0-9a-f]{32})")
_BATCH: Final = re.compile(r"batch_([0-9a-f]{32})")
KEY_ID: Final = re.compile(r"key_([0-9a-f]{32})")
_PREFIX_DIGITS: Final = f"([0-9a-f]{{{LEAST_DIGITS},32}})"
_BATCH_PREFIX: Final = re.compile(f"(?:batch_)?{_PREFIX_DIGITS}")
_OBJECT: Final = re.compile(r"(?:(file-)|[a-z]+_)?([oe]?)([0-9a-f-]+)")
_DIGITS: Final = re.compile(_PREFIX_DIGITS)
_LINE: Final = re.compile(r"batch_req_([0-9a-f]{32})([0-9a-f]{8})([0-9a-f]{4})?")
_PREFIXES: Final = {"file": "file-", "job": "batch_", "api_key": "key_"}
_LETTERS: Final[dict[Which, str]] = {"output": "o", "errors": "e"}


def parse_file_id(text: str) -> Named:
    """Raises NotFound, as for a file that is not there."""
    found = _FILE.fullmatch(text)
    if found is None:
        raise file_not_found()
    letter, digits = found.groups()
    which: Which | None = {"o": "output", "e": "errors"}.get(letter)  # type: ignore[assignment]
    return Named(UUID(digits), which)


def parse_batch_id(text: str) -> UUID:
    """Raises NotFound, as for a batch that is not there."""
    found = _BATCH.fullmatch(text)
    if found is None:
        raise batch_not_found()
    return UUID(found.group(1))


def object_named(text: str) -> tuple[str, UUID] | None:
    """The kind and the id of what an address names by a whole id of ours, whether it is there or not."""
    for kind, shape in (("job", _BATCH), ("file", _FILE), ("api_key", KEY_ID)):
        if (found := shape.fullmatch(text)) is not None:
            *letter, digits = found.groups()
            return "job" if any(letter) else kind, UUID(digits)  # results are their job's
    return None


def batch_range(prefix: str) -> IdRange:
    """Of the ids that begin with what a person typed, ``batch_`` or not. Raises Refused."""
    found = _BATCH_PREFIX.fullmatch(prefix)
    if found is None:
        raise bad_prefix()
    return IdRange.of(found.group(1))


def file_ranges(prefix: str) -> dict[Which | None, IdRange]:
    """The same for files, by kind: an ``e`` may begin an id or name a file of errors. Raises Refused."""
    ranges: dict[Which | None, IdRange] = {}
    for which, letter in ((None, ""), *_LETTERS.items()):
        found = re.fullmatch(f"(?:file-)?{letter}{_PREFIX_DIGITS}", prefix)
        if found is not None:
            ranges[which] = IdRange.of(found.group(1))
    if not ranges:
        raise bad_prefix()
    return ranges


def object_ranges(text: str) -> list[IdRange]:
    """Of the ids of all kinds that begin so, with dashes or without. An ``e`` of a file may begin its id or say what it holds. Raises
    Refused."""
    found = _OBJECT.fullmatch(text)
    kind, letter, digits = ("", "", "") if found is None else found.groups()
    plain = digits.replace("-", "")
    meant = {each for each in (plain if letter == "o" else letter + plain, *([plain] if kind else [])) if _DIGITS.fullmatch(each)}
    ranges = [IdRange.of(each) for each in sorted(meant) if not any(each != other and each.startswith(other) for other in meant)]
    if not ranges:
        raise Refused("invalid_field", f"An object is named by its id, or by {LEAST_DIGITS} to 32 of its first digits.", param="object")
    return ranges


def bad_prefix() -> Refused:
    return Refused("invalid_prefix", f"A prefix is the beginning of an id: {LEAST_DIGITS} to 32 of its digits.", param="prefix")


def line_id(job: bytes, idx: int, run: int) -> bytes:
    """Of a row's line in the results, without its prefix. ``job``: the hex of its id. ``run``: how often it had been run again."""
    return b"%b%08x%04x" % (job, idx, run) if run else b"%b%08x" % (job, idx)


def parse_line_id(text: str, job_id: UUID) -> Place:
    """The row of a line in the results of ``job_id``. Raises NotFound."""
    found = _LINE.fullmatch(text)
    idx = MAX_IDX if found is None or UUID(found.group(1)) != job_id else int(found.group(2), 16)
    if found is None or idx >= MAX_IDX:
        raise NotFound("There is no line with this id in this file.")
    return Place(idx, int(found.group(3) or "0", 16))


def file_not_found() -> NotFound:
    return NotFound("There is no file with this id.")


def batch_not_found() -> NotFound:
    return NotFound("There is no batch with this id.")


def file_id(id: UUID, which: Which | None = None) -> str:
    return f"file-{'' if which is None else _LETTERS[which]}{id.hex}"


def batch_id(id: UUID) -> str:
    return f"batch_{id.hex}"


def public_id(kind: str | None, id: UUID) -> str:
    """Of an object of the record: as its own routes call it, where they do."""
    return f"{_PREFIXES.get(kind or '', '')}{id.hex}"


def seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def to_json(told: msgspec.Struct) -> Json:
    made: Json = msgspec.to_builtins(told)
    return made


def damage(is_there: bool, *moments: datetime | None) -> Fault | None:
    """What is said beside something of which a sealed value does not open, or one of its moments nobody can have written here."""
    return Fault(DAMAGED, describe(DAMAGED).message) if is_there or not all(map(is_known, moments)) else None


def file_object(file: FileRecord) -> Json:
    """``bytes`` is the size of what was uploaded; its content comes back row by row as JSON lines, in ``content_bytes``. A file name is
    never absent: where it cannot be told, its place says why, or holds the id."""
    damaged = damage(file.damaged)
    told = FileInfo(
        id=file_id(file.file_id),
        bytes=file.size_bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=seconds(file.expires_at),
        filename=file.name or (file_id(file.file_id) if damaged is None else damaged.code),
        purpose=file.purpose,
        status={"uploading": "uploaded"}.get(file.state, file.state),
        textmill={
            "rows": file.row_count,
            "defective_rows": file.defect_count,
            **({} if file.content_bytes is None else {"content_bytes": file.content_bytes}),
            **({"doubled_ids": file.doubled_ids} if file.doubled_ids else {}),
            **({} if damaged is None else {"error": damaged}),
        },
    )
    return to_json(told)


def result_file_object(file: ResultFile, size_bytes: int, *, exact: bool) -> Json:
    """``exact``: whether ``size_bytes`` was counted; else it is about as much, or 0 where nobody knows."""
    damaged = damage(False, file.created_at, file.expires_at)
    told = FileInfo(
        id=file_id(file.job_id, file.which),
        bytes=size_bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=seconds(file.expires_at),
        filename=f"{batch_id(file.job_id)}_{'output' if file.which == 'output' else 'error'}.jsonl",
        purpose=RESULTS_PURPOSE,
        status="processed",
        textmill={
            "complete": file.complete,
            "rows": file.row_count,
            "exact_bytes": exact,
            **({} if damaged is None else {"error": damaged}),
        },
    )
    return to_json(told)


def deleted_object(id: str, kind: str) -> Json:
    return {"id": id, "object": kind, "deleted": True}


def erased_object(response: Response, id: str, kind: str, *, gone: bool) -> Json:
    """The same of what has rows. Where these are not ``gone`` yet, but out of everybody's sight, it says so, with 202."""
    if gone:
        return deleted_object(id, kind)
    response.status_code = 202
    return {**deleted_object(id, kind), "state": "deleting"}


def deleted_versions(id: str, kind: str, deleted: Deleted) -> Json:
    """``kept``: of the versions, those that running jobs began with: they go once these have ended."""
    return {**deleted_object(id, kind), "versions": deleted.versions, "kept": deleted.kept}


def list_object(data: Sequence[Mapping[str, object]], *, has_more: bool) -> Json:
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }


def batch_object(job: JobRecord, waiting: WaitingFor | None = None, foreseen: Foreseen = NOT_ASKED) -> Json:
    """``waiting``: what it waits for, and ``foreseen``: when it will be done, where that was asked about."""
    output, errors = result_files(job)
    told = Batch(
        id=batch_id(job.job_id),
        endpoint=job.endpoint,
        model=job.model,
        errors=_errors_object(job),
        input_file_id=file_id(job.file_id),
        completion_window=window_text(job.completion_window_seconds),
        status=_status(job),
        output_file_id=output if job.ended else None,
        error_file_id=errors if job.ended else None,
        created_at=int(job.created_at.timestamp()),
        in_progress_at=seconds(job.steps[0].in_progress_at if job.steps else job.in_progress_at),
        expires_at=seconds(job.deadline),
        finalizing_at=seconds(job.finalizing_at),
        completed_at=seconds(job.completed_at),
        failed_at=seconds(job.failed_at),
        expired_at=seconds(job.expired_at),
        cancelling_at=seconds(job.cancelling_at),
        cancelled_at=seconds(job.cancelled_at),
        counts=RowCounts(job.row_count, job.completed_count, job.failed_count),
        usage=_usage(job),
        metadata=job.metadata,
        textmill=Extras(
            task=job.task,
            priority=job.priority,
            interactive=job.interactive,
            output_file_id=output,
            error_file_id=errors,
            metrics=job.metrics,
            recent_metrics=job.lately,
            shards=job.shards,
            rows_per_second=_rows_per_second(job),
            run_seconds=_run_seconds(job),
            paused=job.paused,
            retries=job.retry_count,
            eta_seconds=eta_seconds(job),
            expected_at=seconds(foreseen.at),
            promised_at=seconds(job.promised_at),
            unforeseen=foreseen.why_not,
            budget=_budget(job),
            end_code=job.end_code,
            waiting_for=waiting,
            readable_rows=job.rows_in_order,
            input_filename=job.file_name,
            warnings=[*late_warnings(foreseen.at, job.deadline, open_rows(job)), *warnings_of(job.metrics, job.completed_count)],
            error=damage(job.damaged),
            steps=[_step_state(step) for step in job.steps],
            step=job.step_name,
            chain_id=None if job.chain_id in {None, job.job_id} else batch_id(job.chain_id or job.job_id),
        ),
    )
    return to_json(told)


def _status(job: JobRecord) -> str:
    """A chain is in progress once its first step is."""
    begun = job.state == "validating" and any(step.state != "validating" for step in job.steps)
    return "in_progress" if begun else job.state


def _step_state(step: JobRecord) -> StepState:
    skipped = (step.metrics or {}).get("skipped", 0.0)
    return StepState(
        name=step.step_name,
        id=batch_id(step.job_id),
        endpoint=step.endpoint,
        model=step.model,
        status=step.state,
        counts=RowCounts(step.row_count, step.completed_count, step.failed_count),
        skipped=round(skipped) if step.ended else None,
        in_progress_at=seconds(step.in_progress_at),
        ended_at=seconds(step.completed_at or step.failed_at or step.expired_at or step.cancelled_at),
    )


def _budget(job: JobRecord) -> Budget | None:
    if job.max_output_tokens is None and job.max_seconds is None:
        return None
    return Budget(job.max_output_tokens, None if job.max_seconds is None else round(job.max_seconds / 3_600, 4))


def _usage(job: JobRecord) -> Usage:
    return Usage(
        input_tokens=job.input_tokens,
        input_tokens_details={"cached_tokens": round((job.metrics or {}).get("cached_tokens", 0.0))},
        output_tokens=job.output_tokens,
        total_tokens=job.input_tokens + job.output_tokens,
    )


def result_files(job: JobRecord) -> tuple[str | None, str | None]:
    """Ids of the output and the error file, as far as there is a row for them; they can be read while the job runs."""
    never_ran = job.state in {"cancelled", "expired"} and job.row_count > job.completed_count + job.failed_count
    output = file_id(job.job_id, "output") if job.completed_count and job.has("output") else None
    errors = file_id(job.job_id, "errors") if (job.failed_count or never_ran) and job.has("errors") else None
    return output, errors


def window_text(window_seconds: int) -> str:
    """24h, 7d, 30m: the largest unit that divides it, but days only from two on (OpenAI writes 24h)."""
    for unit, unit_seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if window_seconds % unit_seconds == 0 and (unit != "d" or window_seconds > unit_seconds):
            return f"{window_seconds // unit_seconds}{unit}"
    return f"{window_seconds}s"


def _errors_object(job: JobRecord) -> BatchFaults | None:
    """Their sentences follow from the codes: the store keeps none."""
    if not job.errors:
        return None
    return BatchFaults(
        data=[BatchFault(fault["code"], fault.get("line"), describe(fault["code"]).message, rows=fault.get("rows")) for fault in job.errors]
    )


def _rows_per_second(job: JobRecord) -> float | None:
    """Over the whole run so far; None before there is a result."""
    done, seconds = job.completed_count + job.failed_count, _run_seconds(job)
    return round(done / seconds, 2) if done and seconds else None


def _run_seconds(job: JobRecord) -> float | None:
    """From its start until now or its end; None before it started."""
    end = job.finalizing_at or job.completed_at or job.cancelled_at or job.expired_at or datetime.now(UTC)
    return None if job.in_progress_at is None else round(max(0.0, (end - job.in_progress_at).total_seconds()), 3)
