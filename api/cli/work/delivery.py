"""A job's rows on their way to where they go: each once, in the order of the input, and what is said of them."""

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.terminal import answer_json, say, shown
from api.cli.work.following import ended_well, say_warnings, say_why
from api.cli.work.outcomes import expected_rows, read_outcomes
from api.cli.work.outputs import Shown, Target, check_columns, open_output
from api.cli.work.tally import TOLD_BY_ROWS, Tally
from api.tables.writers import Writer
from db.files.table import Table
from workers.tasks.task import Task
from workers.tasks.writers import is_ruled

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch


class Delivery:
    """``take`` what a job has, as often as one likes, and ``report`` once it was all that is wanted. A job that failed before any row ran
    leaves no output behind. ``grows``: rows are there for others as they come, where the output can show them."""

    def __init__(
        self,
        client: "Client",
        target: Target,
        task: Task[Any],
        shown_as: Shown | None = None,
        *,
        errors_only: bool = False,
        grows: bool = False,
        unmask: bool = False,
    ) -> None:
        # A person at a terminal looks at the progress there; Parquet is read from its end, and what OUT had stays until all rows have come.
        at_terminal = target.path is None and sys.stdout.isatty()
        replaces = target.path is not None and target.path.is_file()
        self.come_one_by_one = grows and target.kind != "parquet" and not at_terminal and not replaces
        self._client = client
        self._target = target
        self._errors_only = errors_only
        self._unmask = unmask
        self._tally = Tally()
        self._task = task
        self._shown_as = shown_as or Shown()
        self._table: Table | None = None
        self._output: AbstractContextManager[Writer] | None = None
        self._writer: Writer | None = None
        self._row = 0
        self._whole = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._output is not None:
            self._output.__exit__(kind, error, trace)

    def look(self, file_id: str) -> None:
        """At the table that the rows are joined to. Raises CommandError where a column that was asked for is not there."""
        self._table = self._client.columns(file_id) if self._shown_as.inputs else None
        check_columns(self._target, self._task, self._table, self._shown_as)

    def take(self, batch: "Batch") -> None:
        """The rows that it has and were not taken yet."""
        nothing_new = self.come_one_by_one and not batch.ended and (batch.textmill.readable_rows or 0) <= self._row
        if nothing_new or (batch.status == "failed" and not batch.counts.done):
            return
        if self._writer is None:
            output = open_output(self._target, self._task, self._table, self._shown_as, grows=self.come_one_by_one)
            self._writer = output.__enter__()
            self._output = output
        inputs = self._writer.shows_inputs
        asked = {"errors_only": self._errors_only, "inputs": inputs, "unmask": self._unmask}
        for outcome in read_outcomes(self._client, batch, after_row=self._row, **asked):
            self._writer.write(outcome)
            self._tally.add(outcome)
            self._row = outcome.row
        self._writer.flush()
        self._whole = batch.ended

    def say_left(self) -> None:
        """What of the rows is in OUT, where they did not all come."""
        if self.come_one_by_one and self._target.path is not None and self._writer is not None and not self._whole:
            say(f"{shown(self._target.path)} is not whole: it holds the first {self._writer.written:,} rows.")

    def report(self, batch: "Batch", *, as_json: bool, quiet: bool) -> ExitCode:
        """Says what came, what is missing and what was cut."""
        tally, path, has_rows = self._tally, self._target.path, self._writer is not None
        say_why(batch)
        missing = tally.missing_of(expected_rows(batch, errors_only=self._errors_only))
        if as_json:
            answer_json(
                {
                    "job": batch.id,
                    "status": batch.status,
                    "rows": tally.rows,
                    "completed": tally.rows - tally.failed,
                    "failed": tally.failed,
                    "truncated": tally.truncated,
                    "missing": missing,
                    "warnings": batch.textmill.warnings,
                    "output": str(path) if path and has_rows else None,
                }
            )
        elif not quiet and has_rows:
            say(*tally.told(batch, shown(path) if path is not None else None, errors_only=self._errors_only))
            say_warnings(batch, but=TOLD_BY_ROWS)
        if missing:
            say(f"{missing:,} rows of job {batch.id} are missing in what was read. Read them again: textmill results {batch.id}")
            return ExitCode.ROWS_FAILED
        return ended_well(batch) if batch.ended else ExitCode.OK


def deliver(
    client: "Client",
    batch: "Batch",
    target: Target,
    task: Task[Any],
    *,
    as_json: bool,
    shown_as: Shown | None = None,
    quiet: bool = False,
    errors_only: bool = False,
    unmask: bool = False,
) -> ExitCode:
    """Writes what the job has so far, and says what is missing or was cut."""
    shown_as = replace(shown_as or Shown(), rule=is_ruled(batch.model, task.writers))
    with Delivery(client, target, task, shown_as, errors_only=errors_only, unmask=unmask) as rows:
        rows.look(batch.input_file_id)
        rows.take(batch)
    return rows.report(batch, as_json=as_json, quiet=quiet)
