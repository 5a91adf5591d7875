"""What became of each row of a job, in the order of the input.

The API keeps answers and failures in two files; both are sorted by row, so that they are merged here as they stream, in flat memory.
"""

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from api.cli.terminal.exits import CommandError
from workers.tasks import TASKS
from workers.tasks.task import Task

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch


class Outcome(msgspec.Struct, frozen=True):
    """``line`` is the row's line (or record) in the input, from 1. A row has either ``values`` or a failure's ``code`` and ``message``."""

    line: int
    id: str | None
    values: dict[str, object] = {}
    code: str | None = None
    message: str | None = None


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str | None = None


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw


class _Line(msgspec.Struct):
    custom_id: str | None = None
    line: int | None = None
    response: _Response | None = None
    error: _Fault | None = None


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
    place = read.line or 0
    if read.response is None:
        fault = read.error or _Fault()
        return Outcome(place, read.custom_id, code=fault.code or "unknown", message=fault.message)
    if read.response.status_code >= 400:
        fault = msgspec.json.decode(read.response.body, type=_FaultBody).error
        return Outcome(place, read.custom_id, code=fault.code or "unknown", message=fault.message)
    return Outcome(place, read.custom_id, values=task.values(read.response.body))


def read_outcomes(client: "Client", batch: "Batch", *, errors_only: bool = False) -> Iterator[Outcome]:
    """Every row that is done so far. Raises what the client raises."""
    task = task_of(batch.endpoint)

    def stream(file_id: str | None) -> Iterator[Outcome]:
        if file_id is not None:
            for line in client.lines(file_id):
                yield parse_outcome(line, task)

    failures = stream(batch.error_file)
    if errors_only:
        return failures
    return heapq.merge(stream(batch.output_file), failures, key=lambda outcome: outcome.line)
