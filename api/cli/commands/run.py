"""`textmill run`: any task over a file, by its name; what has a command of its own (label, generate, embed) is said shorter there."""

from typing import Annotated

import typer

from api.cli.terminal import completion
from api.cli.terminal.exits import CommandError
from api.cli.terminal.options import (
    Delimiter,
    Detach,
    Format,
    FormulaGuard,
    IdColumn,
    Interactive,
    Json,
    Metadata,
    Model,
    Out,
    Priority,
    Quiet,
    TextColumn,
    Verbose,
    Window,
)


def run(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="What to do with each row; a wrong name lists the right ones.", autocompletion=completion.tasks
        ),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV or Parquet, or - for JSONL rows on stdin.")],
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of every row's body, as JSON or plain text; may be repeated."),
    ] = None,
    out: Out = None,
    model: Model = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    form: Format = None,
    delimiter: Delimiter = None,
    formula_guard: FormulaGuard = True,
    priority: Priority = 0,
    interactive: Interactive = False,
    window: Window = "24h",
    metadata: Metadata = None,
    detach: Detach = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> int:
    """Run TASK over every row of FILE."""
    from api.cli.work import running
    from api.endpoints import TASKS

    endpoint = next((endpoint for endpoint, known in TASKS.items() if known.name == task), None)
    if endpoint is None:
        raise CommandError(f"There is no such task. Tasks: {', '.join(dict.fromkeys(known.name for known in TASKS.values()))}.")
    work = running.Work(
        title="Running",
        endpoint=endpoint,
        defaults={**({"model": model} if model is not None else {}), **dict(map(parse_field, fields or []))},
        out=out,
        window=window,
        priority=running.priority_of(priority, interactive=interactive),
        metadata=running.parse_metadata(metadata or []),
        detach=detach,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        guard=formula_guard,
    )
    source = running.find_source(file, form, text_column=text_column, id_column=id_column, delimiter=delimiter)
    return running.run(source, work)


def parse_field(pair: str) -> tuple[str, object]:
    """``labels=["a","b"]`` or ``prefix=plain text``."""
    import msgspec

    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise CommandError("--set takes FIELD=VALUE.")
    try:
        return name, msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return name, text
