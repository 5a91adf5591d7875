"""`textmill run`: any task over a file, by its name; what has a command of its own (label, generate, embed) is said shorter there."""

import json
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from api.cli.terminal import completion
from api.cli.terminal.exits import CommandError
from api.cli.terminal.options import (
    Columns,
    Delimiter,
    Detach,
    DryRun,
    Format,
    FormulaGuard,
    IdColumn,
    IfLate,
    Input,
    Interactive,
    Json,
    MaxHours,
    MaxOutputTokens,
    Metadata,
    Model,
    Out,
    Priority,
    Quiet,
    Redact,
    TextColumn,
    Verbose,
    Window,
)

if TYPE_CHECKING:
    from workers.tasks.body import Body


def run(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="What to do with each row, a wrong name lists the right ones; or a file of steps.",
            autocompletion=completion.tasks,
        ),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV or Parquet, or - for JSONL rows on stdin.")],
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="A field of every row's body, as JSON or plain text; may be repeated.",
        ),
    ] = None,
    out: Out = None,
    model: Model = None,
    redact: Redact = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    form: Format = None,
    delimiter: Delimiter = None,
    columns: Columns = None,
    inputs: Input = True,
    formula_guard: FormulaGuard = True,
    priority: Priority = 0,
    interactive: Interactive = False,
    window: Window = "24h",
    if_late: IfLate = None,
    dry_run: DryRun = False,
    max_hours: MaxHours = None,
    max_output_tokens: MaxOutputTokens = None,
    metadata: Metadata = None,
    detach: Detach = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> int:
    """Run TASK over every row of FILE, or the steps of a chain: STEPS.yaml in the place of TASK, a list of steps, each with a `name`, a
    `task`, and what else is said of its rows (`when`, `labels`, …). OUT gets the columns of all steps.

    A field that is JSON stands in single quotes: textmill run generate FILE -o OUT.jsonl --set 'response_format={"type": "json_object"}'
    """
    from api.cli.work import chains, running
    from api.cli.work.outputs import Shown
    from api.cli.work.terms import terms
    from api.endpoints import TASKS

    chain: list[dict[str, Any]] = []
    if chains.is_steps_file(task):
        if fields or model is not None:
            raise CommandError("A chain's steps say for themselves what they run: leave --set and --model out.")
        chain = chains.read_steps(Path(task))
        task = chains.task_of_step(chain[-1]) if chain else ""
    endpoint = next((endpoint for endpoint, known in TASKS.items() if known.name == task), None)
    if endpoint is None:
        raise CommandError(f"There is no such task. Tasks: {', '.join(dict.fromkeys(known.name for known in TASKS.values()))}.")
    work = running.Work(
        title="Running",
        endpoint=endpoint,
        content={**({"steps": chain} if chain else {}), "redact": running.redact_of(redact)},
        defaults={
            **({"model": model} if model is not None else {}),
            **dict(parse_field(pair, TASKS[endpoint].body_of(endpoint)) for pair in fields or []),
        },
        out=out,
        window=window,
        terms=terms(if_late, max_hours, max_output_tokens),
        dry_run=dry_run,
        priority=running.priority_of(priority, interactive=interactive),
        metadata=running.parse_metadata(metadata or []),
        detach=detach,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        shown_as=Shown.of(columns, inputs=inputs, guard=formula_guard),
    )
    source = running.find_source(file, form, text_column=text_column, id_column=id_column, delimiter=delimiter)
    return chains.run(source, work) if chain else running.run(source, work)


def parse_field(pair: str, body: type["Body"]) -> tuple[str, object]:
    """``labels=["a","b"]`` or ``prefix=plain text``. Raises CommandError for what should be JSON and is not."""
    import msgspec

    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise CommandError("--set takes FIELD=VALUE.")
    try:
        return name, msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if _is_meant_as_json(text, body, name):
            raise CommandError(
                f"--set {name} takes JSON, and {_why_no_json(text)}. A shell leaves it whole in single quotes: --set '{name}=…'."
            ) from None
        return name, text


def _is_meant_as_json(text: str, body: type["Body"], name: str) -> bool:
    """Of a field that may be an object, or a list and no text. A prompt may begin like one and be none."""
    kinds = _kinds(get_type_hints(body).get(name))
    return (text.lstrip()[:1] == "{" and dict in kinds) or (text.lstrip()[:1] == "[" and list in kinds and str not in kinds)


def _kinds(hint: object) -> set[object]:
    """The types that a union is of, without what theirs hold."""
    origin = get_origin(hint)
    return set().union(*map(_kinds, get_args(hint))) if origin in (Union, UnionType) else {origin or hint}


def _why_no_json(text: str) -> str:
    """Where it goes wrong, and how, in words that hold nothing of it."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return f"what was given is none from its character {error.pos + 1:,} on ({error.msg.removesuffix(' at')})"
    except RecursionError:
        return "what was given is nested too deeply"
    return "what was given holds a number that JSON has not"
