"""`textmill generate` and `textmill embed`: a text, or a vector, for every row."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal.exits import CommandError, ExitCode
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
    OnLong,
    Out,
    Pool,
    Priority,
    Quiet,
    Redact,
    Stride,
    TextColumn,
    Verbose,
    Window,
    WithPrompt,
)

if TYPE_CHECKING:
    from api.cli.work.running import Work
    from api.cli.work.sources import Source


def generate(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="JSONL (prompts, chats or batch lines), CSV or Parquet, or - for JSONL on stdin.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="One prompt instead of a file.")] = None,
    complete: Annotated[bool, typer.Option("--complete", help="Go on with the text, as it stands, instead of answering it.")] = False,
    with_prompt: WithPrompt = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="An instruction before every prompt.")] = None,
    out: Out = None,
    model: Model = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="The longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, max=2.0, help="0 always takes the likeliest word.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable on the same machine.")] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="CHECK", help="What each text must pass, such as words<=80 or language=de (repeatable)."),
    ] = None,
    check_file: Annotated[
        str | None, typer.Option("--check-file", metavar="FILE", help="A list of checks in YAML or JSON, as the API takes it.")
    ] = None,
    tries: Annotated[int | None, typer.Option("--tries", min=1, help="How often a row is asked until its text passes every check.")] = None,
    redact: Redact = None,
    prompt_column: Annotated[str | None, typer.Option("--prompt-column", metavar="NAME", help="The column that holds the prompt.")] = None,
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
    """Generate a text for every prompt of FILE, or for one --prompt.

    A row of JSONL may be a chat (`messages`), and beside `messages`, `prompt` or `input` its own `stop`, `max_tokens`, `temperature`,
    `top_p` and `seed` count before the options. The lines of a batch file are taken as they are.
    """
    from api.cli.terminal.terminal import say, shown
    from api.cli.work.checks import checks_of
    from api.cli.work.outputs import Shown
    from api.cli.work.peeking import literal_places
    from api.cli.work.prompts import with_any_text
    from api.cli.work.running import Work, find_source, parse_metadata, priority_of, redact_of, run
    from api.cli.work.sources import Source
    from api.cli.work.terms import terms

    if with_prompt is not None and file is None:
        raise CommandError("--with-prompt is filled in with the columns of a FILE.")
    if (file is None) == (prompt is None):
        raise CommandError("Give either a FILE of prompts or one --prompt.")
    settings = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    defaults: dict[str, object] = {name: value for name, value in settings.items() if value is not None}
    if system and complete:
        raise CommandError("--system goes with an answer; a text that is gone on with has no instruction beside it.")
    if system:
        defaults["messages"] = [{"role": "system", "content": system}]
    work = Work(
        title="Generating",
        endpoint="/v1/completions" if complete else "/v1/chat/completions",
        defaults=defaults,
        content={"checks": checks_of(check or [], check_file), "tries": tries, "prompt": with_prompt, "redact": redact_of(redact)},
        out=out,
        window=window,
        terms=terms(if_late, max_hours, max_output_tokens),
        dry_run=dry_run,
        priority=priority_of(priority, interactive=interactive),
        metadata=parse_metadata(metadata or []),
        detach=detach,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        shown_as=Shown.of(columns, inputs=inputs, guard=formula_guard),
    )
    if prompt is None:
        found = find_source(file or "", form, text_column=prompt_column, id_column=id_column, delimiter=delimiter)
        if with_prompt is not None:
            found = with_any_text(found)
        elif not quiet and (places := literal_places(found.path, system)):
            say(f"Note: {', '.join(f'{{{shown(name)}}}' for name in places)} in a prompt stays as it is: columns are not filled in.")
        return run(found, work)
    if not prompt.strip():
        raise CommandError("--prompt is empty.")
    import msgspec

    source = Source(None, msgspec.json.encode({"input": prompt}) + b"\n", "prompt", {"format": "jsonl"})
    if out is not None or detach:
        return run(source, work)
    return print_one(source, work)


def print_one(source: "Source", work: "Work") -> ExitCode:
    """The answer to a single prompt, as text on stdout."""
    import sys
    from dataclasses import replace

    from api.cli.terminal.connection import connect
    from api.cli.terminal.progress import show_progress
    from api.cli.terminal.terminal import answer, answer_json, say, shown_lines
    from api.cli.work.following import ended_well, follow, let_go, say_why
    from api.cli.work.outcomes import read_outcomes
    from api.cli.work.running import start

    with connect() as client:
        batch = start(client, source, replace(work, quiet=True))
        try:
            with show_progress(work.title, quiet=work.quiet, single=True) as progress:  # a model may take its time to load
                batch = follow(client, batch, progress)
        except KeyboardInterrupt:
            return let_go(client, batch, work.out)
        say_why(batch)
        for outcome in read_outcomes(client, batch):
            if work.as_json:
                answer_json({"job": batch.id, **({"error": outcome.code, "message": outcome.message} if outcome.code else outcome.values)})
            elif outcome.code is None:  # else the job has failed, and why was said
                text = str(outcome.values["text"])
                answer(shown_lines(text) if sys.stdout.isatty() else text)
                if outcome.cut_short and not work.quiet:
                    say("The answer stops in the middle: it is as long as --max-tokens lets it be.")
        return ended_well(batch)


def embed(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV or Parquet, or - for JSONL rows on stdin.")],
    out: Out = None,
    model: Model = None,
    on_long: OnLong = None,
    pool: Pool = None,
    stride: Stride = None,
    redact: Redact = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    form: Format = None,
    delimiter: Delimiter = None,
    columns: Columns = None,
    inputs: Input = True,
    priority: Priority = 0,
    interactive: Interactive = False,
    window: Window = "24h",
    if_late: IfLate = None,
    dry_run: DryRun = False,
    max_hours: MaxHours = None,
    metadata: Metadata = None,
    detach: Detach = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> int:
    """Write a vector of unit length for every row of FILE (to .jsonl or .parquet)."""
    from api.cli.work.outputs import Shown
    from api.cli.work.running import Work, find_source, long_texts, parse_metadata, priority_of, redact_of, run
    from api.cli.work.terms import terms

    work = Work(
        title="Embedding",
        endpoint="/v1/embeddings",
        defaults={"encoding_format": "float", **({"model": model} if model is not None else {}), **long_texts(on_long, pool, stride)},
        content={"redact": redact_of(redact)},
        out=out,
        window=window,
        terms=terms(if_late, max_hours),
        dry_run=dry_run,
        priority=priority_of(priority, interactive=interactive),
        metadata=parse_metadata(metadata or []),
        detach=detach,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        shown_as=Shown.of(columns, inputs=inputs),
    )
    return run(find_source(file, form, text_column=text_column, id_column=id_column, delimiter=delimiter), work)
