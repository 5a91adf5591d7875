"""Options that several commands share, so that they read the same everywhere."""

from typing import Annotated

import typer

from api.cli.terminal import completion

Out = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="OUT", help="Where results go: a .jsonl, .csv or .parquet file, or - for stdout."),
]
FormulaGuard = Annotated[
    bool,
    typer.Option("--formula-guard/--no-formula-guard", help="In a CSV, a ' before texts that a spreadsheet would run as formulas."),
]
Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="NAMES", help="Only these columns, in this order: of the input's and of the results'."),
]
Input = Annotated[
    bool, typer.Option("--input/--no-input", help="Results behind the columns of the input, or alone with each row's number, line and id.")
]
Redact = Annotated[
    str | None,
    typer.Option(
        "--redact",
        metavar="KINDS",
        help="Mask what is sensitive in each row before a model sees it: all, or kinds such as email,phone.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output, errors too.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only errors are said.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell how fast it was, and where the time went.")]
Detach = Annotated[bool, typer.Option("--detach", help="Start the job, print its id, and leave.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="jsonl, csv, parquet or txt; otherwise the name tells (stdin: jsonl).",
        autocompletion=completion.words("jsonl", "csv", "parquet", "txt"),
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHAR", help="What separates the cells of a CSV: , ; | or tab; otherwise the header tells."),
]
IdColumn = Annotated[str | None, typer.Option("--id-column", metavar="NAME", help="The column that names a row in the results.")]
TextColumn = Annotated[str | None, typer.Option("--text-column", metavar="NAME", help="The column that holds the text.")]
Priority = Annotated[int, typer.Option("--priority", min=-99, max=99, help="Higher runs first among your own jobs.")]
Interactive = Annotated[bool, typer.Option("--interactive", help="You wait for it: before all bulk work. At most 256 rows.")]
OnLong = Annotated[
    str | None,
    typer.Option(
        "--on-long",
        metavar="truncate|refuse|chunk",
        help="A text longer than the model reads: cut it, fail it, or read it in windows and pool what they say.",
        autocompletion=completion.words("truncate", "refuse", "chunk"),
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(
        "--pool",
        metavar="mean|max",
        help="How the windows of a text become one answer (with --on-long chunk).",
        autocompletion=completion.words("mean", "max"),
    ),
]
Stride = Annotated[
    int | None, typer.Option("--stride", min=0, max=8192, help="Tokens that a window shares with the one before it (with --on-long chunk).")
]
Window = Annotated[str, typer.Option("--window", metavar="TIME", help="When it must be done: 30m, 24h, 7d, 2026-01-31, 2026-01-31T06:00Z.")]
WithPrompt = Annotated[
    str | None,
    typer.Option(
        "--with-prompt",
        metavar="NAME",
        help="A stored prompt, NAME or NAME@2, filled in with each row's columns, in the place of its text.",
        autocompletion=completion.prompts,
    ),
]
IfLate = Annotated[
    str | None,
    typer.Option(
        "--if-late",
        metavar="run|refuse",
        help="Where it would be done after its window: run it and say so, or make no job.",
        autocompletion=completion.words("run", "refuse"),
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Make no job: show three rows, and what it would take. Nothing of the file is sent.")
]
MaxOutputTokens = Annotated[
    int | None, typer.Option("--max-output-tokens", metavar="N", min=1, help="A budget: once the job has written so many, it ends.")
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", metavar="H", min=0.0, max=720.0, help="A budget: so long after its start the job ends.")
]
Metadata = Annotated[list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Kept with the job; may be repeated.")]
Model = Annotated[str | None, typer.Option("--model", metavar="ID", help="See `textmill models list`.", autocompletion=completion.models)]


Job = Annotated[str, typer.Argument(metavar="JOB", help="A job's id or its first digits, or `last`.", autocompletion=completion.jobs)]
