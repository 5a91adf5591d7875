"""Watches a job until it ends, and lets go of it in good order: the job is the server's, the terminal only looks at it."""

import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final

from api.cli.terminal.exits import ExitCode
from api.cli.terminal.progress import Progress
from api.cli.terminal.terminal import say, shown

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch, BatchFault

FIRST_POLL_SECONDS: Final = 0.2
LAST_POLL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0  # an API that restarts is back by then
WAITING_SECONDS: Final = 1.0  # what is over sooner is not told


def follow(client: "Client", batch: "Batch", progress: Progress, take: "Callable[[Batch], None] | None" = None) -> "Batch":
    """Returns the batch once it has ended. Raises Unreachable when the server stays away, KeyboardInterrupt on Ctrl-C. ``take`` gets what
    each look at the job told; where it finds the server away, it is asked again."""
    from api.client import Unreachable

    began = answered = time.monotonic()
    pause_seconds = FIRST_POLL_SECONDS
    while not batch.ended:
        _show(progress, batch, time.monotonic() - began)
        time.sleep(pause_seconds)
        pause_seconds = min(LAST_POLL_SECONDS, pause_seconds * 1.3)
        try:
            batch = client.batch(batch.id)
            if take is not None and not batch.ended:
                take(batch)
            answered = time.monotonic()
        except Unreachable:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
    _show(progress, batch, 0.0)
    return batch


def _show(progress: Progress, batch: "Batch", waited_seconds: float) -> None:
    counts = next((step.counts for step in batch.textmill.steps if step.ended_at is None), batch.counts)
    progress.update(counts.done, counts.total or None, note_on(batch, waited_seconds), batch.usage.output_tokens)


def note_on(batch: "Batch", waited_seconds: float) -> str:
    """What the numbers do not say."""
    parts = []
    steps = batch.textmill.steps
    if steps and not batch.ended:
        at = next((at for at, step in enumerate(steps) if step.ended_at is None), len(steps) - 1)
        parts.append(f"step {at + 1} of {len(steps)}, {shown(steps[at].name or 'unnamed')}")
    paused = batch.textmill.paused and not batch.ended
    if paused:
        parts.append("paused")
    elif batch.status not in ("in_progress", "completed") and not (batch.status == "failed" and batch.counts.failed):
        parts.append(batch.status)
    if batch.counts.failed:
        parts.append(f"{batch.counts.failed:,} failed")
    if waits_for(batch) and waited_seconds >= WAITING_SECONDS:
        parts.append(waits_for(batch))
    return ", ".join(parts)


def waits_for(batch: "Batch") -> str:
    """What keeps its rows from being worked on; empty where nothing does."""
    waiting = None if batch.ended else batch.textmill.waiting_for
    return "" if waiting is None else shown(waiting.message)


def ended_well(batch: "Batch") -> ExitCode:
    if batch.status != "completed":
        return ExitCode.JOB_ENDED_BADLY
    return ExitCode.ROWS_FAILED if batch.counts.failed else ExitCode.OK


def say_why(batch: "Batch") -> None:
    """For a job that ended and did not complete."""
    if batch.status == "completed" or not batch.ended:
        return
    if batch.status == "failed" and batch.counts.done:
        say(f"Job {batch.id} failed: none of its {batch.counts.total:,} rows has an answer.")
    else:
        why = ", for its budget is used up" if batch.textmill.end_code == "batch_over_budget" else ""
        say(f"Job {batch.id} ended as {batch.status}{why}; {batch.counts.done:,} of {batch.counts.total:,} rows were done.")
    told = fault_texts(batch)
    say(*(f"  {each}" for each in told[:10]))
    if len(told) > 10:
        say(f"  … and {len(told) - 10:,} more: textmill jobs show {batch.id}")


def say_warnings(batch: "Batch", *, but: Collection[str] = ()) -> None:
    """What its owner should know though it ended well. ``but``: codes of what was said otherwise."""
    say(*(f"Note: {shown(warning.message)}" for warning in batch.textmill.warnings if warning.code not in but))


def fault_texts(batch: "Batch") -> list[str]:
    """The reasons why a job failed, each once: what several lines have in common is said of them together."""
    faults = batch.errors.data if batch.errors is not None else []
    alike: dict[tuple[object, ...], list[BatchFault]] = {}
    for fault in faults:
        one_by_one = fault.rows is not None or fault.line is None
        alike.setdefault((id(fault),) if one_by_one else (fault.code, fault.message), []).append(fault)
    return [fault_text(each[0], [fault.line for fault in each[1:] if fault.line is not None]) for each in alike.values()]


def fault_text(fault: "BatchFault", more_lines: Sequence[int] = ()) -> str:
    """A reason why a job failed: where, and what. ``more_lines``: of those that failed for the same."""
    what = shown(fault.message or fault.code or "unknown")
    if fault.rows is not None:
        first = f", the first in line {fault.line:,}" if fault.line is not None and fault.rows > 1 else ""
        return f"{fault.rows:,} {'row' if fault.rows == 1 else 'rows'}{first}: {what}"
    if more_lines:
        named = ", ".join(f"{line:,}" for line in (fault.line, *more_lines[:2]))
        return f"lines {named}{f' and {len(more_lines) - 2:,} more' if len(more_lines) > 2 else ''}: {what}"
    return f"line {fault.line}: {what}" if fault.line is not None else what


def let_go(client: "Client", batch: "Batch", out: str | None) -> ExitCode:
    """After Ctrl-C: asks whether the job goes on; where nobody can be asked, it does."""
    from api.client import Unreachable

    if batch.ended:
        say(f"Interrupted. The results are on the server: textmill results {batch.id} -o {_quoted(out)}")
        return ExitCode.INTERRUPTED
    if not _leave_running():
        try:
            batch = client.cancel(batch.id)
        except Unreachable as error:
            say(f"The job could not be cancelled: {error.message}")
        else:
            say(f"Job {batch.id} is being cancelled; what is done stays readable: textmill results {batch.id} -o {_quoted(out)}")
            return ExitCode.INTERRUPTED
    say(f"Job {batch.id} goes on. To come back:", *come_back(batch, out))
    return ExitCode.INTERRUPTED


def come_back(batch: "Batch", out: str | None) -> tuple[str, str]:
    return (f"  textmill jobs watch {batch.id}", f"  textmill results {batch.id} -o {_quoted(out)}")


def _leave_running() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    import typer

    try:
        return typer.confirm("\nLeave the job running?", default=True, err=True)
    except (typer.Abort, KeyboardInterrupt):
        return True


def _quoted(out: str | None) -> str:
    import shlex

    return shown(shlex.quote(out)) if out and out != "-" else "OUT.jsonl"
