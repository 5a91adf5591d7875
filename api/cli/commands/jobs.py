"""`textmill jobs`: what runs, how far it is, and what may be asked of it. `textmill results`: what came out."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal.deleting import confirm
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Columns, FormulaGuard, Input, Job, Json, Out, Quiet, Verbose, Yes
from api.cli.terminal.references import find_job

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch, StepState

app = typer.Typer(no_args_is_help=True, help="List, watch, pause, cancel, retry and delete jobs.")


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> int:
    """List jobs, newest first."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.references import short_ids
    from api.cli.terminal.terminal import age, answer_json, table
    from api.cli.work.outcomes import task_name

    with connect() as client:
        batches = list(islice(client.batches(), limit))
    if as_json:
        answer_json(batches)
        return ExitCode.OK
    ids = short_ids(batch.id for batch in batches)
    table(
        ("JOB", "TASK", "STATE", "DONE", "ROWS", "FAILED", "AGE", "FILE"),
        (
            (
                ids[batch.id],
                task_name(batch.endpoint),
                state_of(batch),
                f"{batch.counts.done:,}",
                f"{batch.counts.total:,}",
                f"{batch.counts.failed:,}",
                age(batch.created_at),
                batch.textmill.input_filename or "",
            )
            for batch in batches
        ),
        cut="FILE",
    )
    return ExitCode.OK


@app.command()
def show(
    job: Job,
    row: Annotated[
        str | None, typer.Option("--row", metavar="ID|NUMBER", help="What became of one row: by its id, or its number from 1.")
    ] = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> int:
    """Show one job and its story: its shards, who ran them, and why one failed. With -v how fast it was, too. With --row that of one row:
    of a chain step by step, what each said of it and who ran it."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, table
    from api.cli.work.row_story import show_row
    from api.cli.work.tally import reasons_of
    from api.cli.work.timeline import show_story

    with connect() as client:
        found = find_job(client, job)
        if row is not None:
            return show_row(client.row(found, row), as_json=as_json)
        batch, story = client.batch(found), client.story(found)
        reasons = [] if as_json else reasons_of(client, batch)
    if as_json:
        import msgspec

        answer_json({**msgspec.to_builtins(batch), "story": story})
    else:
        table(("FIELD", "VALUE"), [*describe(batch, verbose=verbose), *(("reason", each) for each in reasons)])
        show_story(story)
    return ExitCode.OK


@app.command()
def watch(job: Job, quiet: Quiet = False, as_json: Json = False) -> int:
    """Watch a job until it ends. Ctrl-C leaves the job running or cancels it, as you like."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.progress import show_progress
    from api.cli.terminal.terminal import answer_json, say
    from api.cli.work.following import ended_well, follow, let_go, say_warnings, say_why

    with connect() as client:
        batch = client.batch(find_job(client, job))
        try:
            with show_progress("Job", quiet=quiet) as progress:
                batch = follow(client, batch, progress)
        except KeyboardInterrupt:
            return let_go(client, batch, None)
    say_why(batch)
    if as_json:
        answer_json(batch)
    elif batch.status == "completed" and not quiet:
        say_warnings(batch)
        say(f"Completed: {batch.counts.done:,} rows, {batch.counts.failed:,} failed. Read them: textmill results {batch.id} -o OUT.jsonl")
    return ended_well(batch)


@app.command()
def cancel(job: Job, as_json: Json = False) -> int:
    """Cancel a job. Rows that are done stay readable."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say

    with connect() as client:
        batch = client.cancel(find_job(client, job))
    if as_json:
        answer_json(batch)
    else:
        say(f"Job {batch.id} is {batch.status}.")
    return ExitCode.OK


@app.command()
def pause(job: Job, as_json: Json = False) -> int:
    """Pause a job. What is with a model is finished; its deadline goes on."""
    return _steer(job, lambda client, found: client.pause(found), as_json)


@app.command()
def resume(job: Job, as_json: Json = False) -> int:
    """Go on with a paused job."""
    return _steer(job, lambda client, found: client.resume(found), as_json)


@app.command()
def retry(job: Job, as_json: Json = False) -> int:
    """Run the rows again that failed, and those that never ran. Answers are kept."""
    return _steer(job, lambda client, found: client.retry(found), as_json)


@app.command()
def priority(
    job: Job,
    value: Annotated[int, typer.Argument(metavar="NUMBER", min=-99, max=99, help="-99 to 99; higher goes first, among your own jobs.")],
    as_json: Json = False,
) -> int:
    """Put a job before or behind your others, while it runs too."""
    return _steer(job, lambda client, found: client.set_priority(found, value), as_json)


@app.command()
def delete(
    job: Job,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Delete a job and its results, whether it runs or has ended. Its file stays."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say

    with connect() as client:
        batch = client.batch(find_job(client, job))
        if not yes:
            confirm(f"Delete job {batch.id} ({state_of(batch)}) and {batch.counts.done:,} results for ever?")
        deleted = client.delete("/v1/batches", batch.id)
    if as_json:
        answer_json(deleted)
    else:
        say(f"Job {batch.id} is deleted.")
    return ExitCode.OK


def step_told(step: "StepState") -> str:
    from api.cli.terminal.terminal import shown
    from api.cli.work.outcomes import task_name

    counts = f"{step.counts.completed:,} completed, {step.counts.failed:,} failed" + (f", {step.skipped:,} skipped" if step.skipped else "")
    return f"{shown(step.name or '')} ({task_name(step.endpoint)}, {step.model or 'no model'}): {step.status}, {counts}; {step.id}"


def state_of(batch: "Batch") -> str:
    """As a person reads it: a job that is paused is in progress for the API."""
    return "paused" if batch.textmill.paused and not batch.ended else batch.status


def _steer(job: str, ask: Callable[["Client", str], "Batch"], as_json: bool) -> int:
    """Asks, and tells how the job stands right after."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say

    with connect() as client:
        batch = ask(client, find_job(client, job))
    if as_json:
        answer_json(batch)
    else:
        counts = batch.counts
        open_rows = counts.total - counts.done
        say(f"Job {batch.id} is {state_of(batch)}: {counts.completed:,} done, {counts.failed:,} failed, {open_rows:,} open.")
    return ExitCode.OK


def results(
    job: Job,
    out: Out = None,
    errors: Annotated[bool, typer.Option("--errors", help="Only the rows that failed.")] = False,
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Write the scores of all labels, not only the best.")] = True,
    unmask: Annotated[bool, typer.Option("--unmask", help="Values in the place of the job's masks: for a key with that scope.")] = False,
    columns: Columns = None,
    inputs: Input = True,
    formula_guard: FormulaGuard = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Write a job's results, in the order of its rows. While the job runs: those that are done so far."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import say
    from api.cli.work import chains
    from api.cli.work.delivery import deliver
    from api.cli.work.outcomes import task_of
    from api.cli.work.outputs import Shown, parse_target

    if out is None:
        raise CommandError("Say where the results go: -o OUT.jsonl, -o OUT.csv, -o OUT.parquet, or -o - for stdout.")
    if out == "-" and as_json:
        raise CommandError("--json tells about the job on stdout, where -o - already sends the results; take one of them.")
    shown_as = Shown.of(columns, inputs=inputs, scores=scores, guard=formula_guard)
    with connect() as client:
        batch = client.batch(find_job(client, job))
        task = task_of(batch.endpoint)
        target = parse_target(out, task)
        if not batch.ended and not quiet:
            say(f"Job {batch.id} is {batch.status}: {batch.counts.done:,} of {batch.counts.total:,} rows are done.")
        if batch.textmill.steps and not errors:
            return chains.deliver(client, batch, target, shown_as, as_json=as_json, quiet=quiet, unmask=unmask)
        return deliver(client, batch, target, task, as_json=as_json, shown_as=shown_as, quiet=quiet, errors_only=errors, unmask=unmask)


def _expected(batch: "Batch") -> Iterator[tuple[str, object]]:
    """When it will be done, and when it was to be, or why that is not known."""
    from api.cli.terminal.terminal import age, shown, when

    told = batch.textmill
    if told.expected_at is not None:
        yield "expected", f"{when(told.expected_at)}, in {age(time.time(), told.expected_at)}"
    elif told.unforeseen is not None:
        yield "expected", f"not known: {shown(told.unforeseen.message)}"
    if told.promised_at is not None:
        yield "promised", when(told.promised_at)


def describe(batch: "Batch", *, verbose: bool = False) -> list[tuple[str, object]]:
    """Field by field; what is not known is left out, and without ``verbose`` how fast it was."""
    from api.cli.terminal.terminal import shown, when
    from api.cli.work.figures import SPEEDS, figures
    from api.cli.work.following import fault_texts, waits_for
    from api.cli.work.outcomes import task_name
    from api.performance import performance

    rows: list[tuple[str, object]] = [
        ("id", batch.id),
        ("task", task_name(batch.endpoint)),
        ("model", batch.model or ""),
        ("state", state_of(batch)),
        ("rows", f"{batch.counts.total:,}"),
        ("completed", f"{batch.counts.completed:,}"),
        ("failed", f"{batch.counts.failed:,}"),
        ("input file", f"{batch.input_file_id} {batch.textmill.input_filename or ''}".strip()),
        ("tokens", f"{batch.usage.input_tokens:,} in, {batch.usage.output_tokens:,} out"),
    ]
    moments = {
        "created": batch.created_at,
        "started": batch.in_progress_at,
        "expires": batch.expires_at,
        "completed at": batch.completed_at,
        "failed at": batch.failed_at,
        "expired at": batch.expired_at,
        "cancelled at": batch.cancelled_at,
    }
    rows += [(name, when(moment)) for name, moment in moments.items() if moment is not None]
    if batch.textmill.priority:
        rows.append(("priority", batch.textmill.priority))
    if batch.textmill.retries:
        rows.append(("run again", f"{batch.textmill.retries} ×"))
    if waits_for(batch):
        rows.append(("now", waits_for(batch)))
    rows += _expected(batch)
    if (budget := batch.textmill.budget) is not None:
        tokens = [] if budget.max_output_tokens is None else [f"{budget.max_output_tokens:,} tokens out"]
        hours = [] if budget.max_hours is None else [f"{budget.max_hours:g} h of running"]
        rows.append(("budget", ", ".join(tokens + hours) + (" (used up)" if batch.textmill.end_code else "")))
    rows += [(f"step {at}", step_told(step)) for at, step in enumerate(batch.textmill.steps, start=1)]
    rows += [(f"shards {state}", count) for state, count in (batch.textmill.shards or {}).items()]
    used = performance(batch)
    rows += [each for each in figures(used) if verbose or each[0] not in SPEEDS]
    if verbose:
        rows += [(f"time {stage}", f"{used.stages[stage]:.2f} s, {share:.1%}") for stage, share in used.stage_shares.items()]
    rows += [(f"metadata {key}", value) for key, value in (batch.metadata or {}).items()]
    rows += [("warning", shown(warning.message)) for warning in batch.textmill.warnings]
    return [*rows, *(("reason", each) for each in fault_texts(batch))]
