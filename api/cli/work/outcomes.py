"""What became of each row of a job, in the order of the input.

The API keeps answers and failures in two files; both are sorted by row, so that they are merged here as they stream, in flat memory.
"""

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.cli.terminal.exits import CommandError
from api.tables.outcome import Outcome
from workers.tasks import TASKS
from workers.tasks.task import Task

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Input(msgspec.Struct):
    body: msgspec.Raw
    columns: msgspec.Raw


class _Line(msgspec.Struct):
    custom_id: str | None = None
    line: int | None = None
    row: int | None = None
    response: _Response | None = None
    error: _Fault | None = None
    input: _Input | None = None


class _FaultBody(msgspec.Struct):
    error: _Fault


_decode_line: Final = msgspec.json.Decoder(_Line).decode
_BY_ENDPOINT: Final = {endpoint: task for task in TASKS.values() for endpoint in task.endpoints}


def task_of(endpoint: str) -> Task[Any]:
    """Raises CommandError where the server has a task that this textmill does not know."""
    task = _BY_ENDPOINT.get(endpoint)
    if task is None:
        raise CommandError("The job runs a task that this version of textmill does not know: use the version of the server.")
    return task


def task_name(endpoint: str) -> str:
    """Of a task that this textmill does not know: its endpoint."""
    task = _BY_ENDPOINT.get(endpoint)
    return endpoint if task is None else task.name


def parse_outcome(line: bytes, task: Task[Any]) -> Outcome:
    """A line of an output or an error file."""
    read = _decode_line(line)
    body, columns = (None, None) if read.input is None else (_unless_null(read.input.body), _unless_null(read.input.columns))
    values: dict[str, object] = {}
    fault = None
    if read.response is None or read.error is not None:  # an answer with an error: it is not known whose it is
        fault = read.error or _Fault()
    elif read.response.status_code >= 400:
        fault = msgspec.json.decode(read.response.body, type=_FaultBody).error
    else:
        values = task.told(read.response.body)
    code, message = (None, None) if fault is None else (fault.code or "unknown", fault.message)
    return Outcome(read.row or 0, read.line or 0, read.custom_id, values, code, message, body, columns, len(line))


def _unless_null(raw: msgspec.Raw) -> bytes | None:
    value = bytes(raw)
    return None if value == b"null" else value


def read_outcomes(
    client: "Client", batch: "Batch", *, errors_only: bool = False, after_row: int = 0, inputs: bool = False, unmask: bool = False
) -> Iterator[Outcome]:
    """Every row of a job that has ended; of one that runs, those before its first open row, as ``batch`` tells. Of both, those behind
    ``after_row``. ``inputs``: each with its row as it is kept; ``unmask``: values in the place of the job's masks. Raises what the
    client raises.

    The two files of a job that runs are read one after the other, and it goes on in between: what is behind that row in one of them may
    not be in the other yet.
    """
    task = task_of(batch.endpoint)
    end_row = None if batch.ended else batch.textmill.readable_rows
    after = batch.line_id(after_row) if after_row else None

    def stream(file_id: str | None) -> Iterator[Outcome]:
        if file_id is not None and (end_row is None or end_row > after_row):
            for line in client.lines(file_id, after=after, inputs=inputs, unmask=unmask):
                outcome = parse_outcome(line, task)
                if end_row is not None and outcome.row > end_row:
                    return
                yield outcome

    failures = stream(batch.error_file)
    if errors_only:
        return failures
    return heapq.merge(stream(batch.output_file), failures, key=lambda outcome: outcome.row)


def expected_rows(batch: "Batch", *, errors_only: bool = False) -> int | None:
    """How many rows :func:`read_outcomes` has to give, by the job's own counts; None where they do not say."""
    if not batch.ended:
        return None if errors_only else batch.textmill.readable_rows
    counts = batch.counts
    never_ran = counts.total - counts.done if batch.status in ("cancelled", "expired") else 0
    failures = counts.failed + never_ran if batch.error_file is not None else 0
    return failures if errors_only else failures + (counts.completed if batch.output_file is not None else 0)
