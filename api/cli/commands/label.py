"""`textmill label`: gives every row of a file one of the labels."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from api.cli.terminal import completion
from api.cli.terminal.completion import HEAD_PREFIX, RULES_PREFIX
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

Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels", metavar="A,B,C", help="The labels, separated by commas; one that holds a comma in double quotes. May be repeated."
    ),
]

Describe = Annotated[
    list[str] | None,
    typer.Option("--describe", metavar="LABEL=SENTENCE", help="To a decoder, what is meant by a label; may be repeated."),
]
DescriptionsFile = Annotated[
    str | None, typer.Option("--descriptions-file", metavar="FILE", help="A file with one LABEL=SENTENCE a line, in place of --describe.")
]


def label(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV or Parquet, or - for JSONL rows on stdin.")],
    labels: Labels = None,
    labels_file: Annotated[str | None, typer.Option("--labels-file", metavar="FILE", help="A file with one label a line.")] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="NAME", help="A head made by `textmill train head`.", autocompletion=completion.heads)
    ] = None,
    label_set: Annotated[
        str | None, typer.Option("--label-set", metavar="NAME", help="A stored set of labels.", autocompletion=completion.label_sets)
    ] = None,
    out: Out = None,
    with_prompt: WithPrompt = None,
    model: Model = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    form: Format = None,
    delimiter: Delimiter = None,
    columns: Columns = None,
    inputs: Input = True,
    formula_guard: FormulaGuard = True,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help='How a label reads in a sentence, e.g. "news about {}"; may be repeated.'),
    ] = None,
    describe: Describe = None,
    descriptions_file: DescriptionsFile = None,
    rotations: Annotated[
        int | None,
        typer.Option("--rotations", metavar="N", min=1, help="Ask a decoder in so many orders of the labels, a prompt each, and average."),
    ] = None,
    length_normalised: Annotated[
        bool, typer.Option("--length-normalised", help="Divide a decoder's logprob of a label by the label's number of tokens.")
    ] = False,
    calibrated: Annotated[
        bool | None,
        typer.Option(
            "--calibrated/--uncalibrated", help="Whether to take off what each label gets from a decoder where a text says nothing."
        ),
    ] = None,
    on_long: OnLong = None,
    pool: Pool = None,
    stride: Stride = None,
    redact: Redact = None,
    scores: Annotated[bool, typer.Option("--scores/--no-scores", help="Write the scores of all labels, not only the best.")] = True,
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
    """Label every row of FILE.

    The results come in the order of the rows; a row that could not be labelled is there too, with its error code.
    """
    from api.cli.work.outputs import Shown
    from api.cli.work.prompts import with_any_text
    from api.cli.work.running import Work, find_source, long_texts, parse_metadata, priority_of, redact_of, run
    from api.cli.work.terms import terms

    if model is not None and model.startswith(RULES_PREFIX):
        if labels or labels_file or head or label_set:
            raise CommandError("Rules answer with labels of their own: leave --labels, --labels-file, --label-set and --head out.")
        defaults: dict[str, object] = {}
    else:
        defaults = choose_labels(labels, labels_file, head, label_set)
    if model is not None:
        if head is not None:
            raise CommandError("--head names the model already; leave --model out.")
        defaults["model"] = model
    if template:
        if head is not None:
            raise CommandError("--template describes labels to a model without training; a head does not read it.")
        if not all("{}" in one for one in template):
            raise CommandError("Every --template holds {} where the label goes.")
        defaults["templates"] = template
    defaults |= asked_of_decoder(
        read_descriptions(describe, descriptions_file), rotations, length_normalised=length_normalised, calibrated=calibrated
    )
    defaults |= long_texts(on_long, pool, stride)
    source = find_source(file, form, text_column=text_column, id_column=id_column, delimiter=delimiter)
    if with_prompt is not None:
        source = with_any_text(source)
    work = Work(
        title="Labelling",
        endpoint="/v1/classifications",
        defaults=defaults,
        content={"prompt": with_prompt, "redact": redact_of(redact)},
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
        shown_as=Shown.of(columns, inputs=inputs, scores=scores, guard=formula_guard),
    )
    return run(source, work)


def choose_labels(labels: Sequence[str] | None, labels_file: str | None, head: str | None, label_set: str | None) -> dict[str, object]:
    """The one of the four that was given, as the job's defaults. Raises CommandError for none or several."""
    given = [
        name
        for name, value in (("--labels", labels), ("--labels-file", labels_file), ("--head", head), ("--label-set", label_set))
        if value
    ]
    if len(given) != 1:
        told = "Give the labels" if not given else f"{' and '.join(given)} exclude each other: give the labels"
        raise CommandError(f"{told} one way: --labels a,b,c, --labels-file FILE, --label-set NAME or --head NAME.")
    if head:
        return {"model": f"{HEAD_PREFIX}{head.removeprefix(HEAD_PREFIX)}"}  # `heads show` and the API write it with the prefix
    if label_set:
        return {"label_set": label_set}
    return {"labels": read_labels(labels_file) if labels_file else split_labels(labels or ())}


def asked_of_decoder(
    descriptions: dict[str, str], rotations: int | None, *, length_normalised: bool, calibrated: bool | None
) -> dict[str, object]:
    """What only a decoder reads, as the job's defaults."""
    given = {"descriptions": descriptions or None, "rotations": rotations}
    given |= {"length_normalised": length_normalised or None, "calibrated": calibrated}
    return {name: value for name, value in given.items() if value is not None}


def read_descriptions(described: Sequence[str] | None, path: str | None) -> dict[str, str]:
    """By label. A label that holds an equals sign is described by the API alone. Raises CommandError."""
    if described and path:
        raise CommandError("--describe and --descriptions-file exclude each other.")
    found: dict[str, str] = {}
    for one in lines_of(path, "descriptions") if path else described or ():
        name, sign, sentence = (part.strip() for part in one.partition("="))
        if not (name and sign and sentence):
            raise CommandError("A description is LABEL=SENTENCE, such as --describe 'sport=matches, athletes and their clubs'.")
        if name in found:
            raise CommandError("A label is described twice.")
        found[name] = sentence
    return found


def split_labels(labels: Sequence[str]) -> list[str]:
    """Each as a record of CSV: what stands in double quotes may hold commas. Raises CommandError."""
    try:
        records = list(csv.reader(labels, skipinitialspace=True, strict=True))
    except csv.Error:
        raise CommandError("A quote in --labels is not closed, or goes on behind its end: --labels '\"Sport, games\",Business'.") from None
    return checked_labels([name.strip() for record in records for name in record])


def read_labels(path: str) -> list[str]:
    """One label a line."""
    return checked_labels(lines_of(path, "labels"))


def lines_of(path: str, what: str) -> list[str]:
    """Without space at their ends; blank lines do not count."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(f"The {what} file cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"The {what} file is not UTF-8 text.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def checked_labels(names: list[str]) -> list[str]:
    """Early and in the words of the command line; the server checks again. Raises CommandError."""
    from api.cli.terminal.terminal import shown
    from workers.tasks.reading import is_blank, same_label

    if any(is_blank(name) for name in names):
        raise CommandError("One of the labels is empty.")
    if len(names) < 2:
        raise CommandError("It takes at least two labels.")
    seen: set[str] = set()
    for name in names:
        if same_label(name) in seen:
            raise CommandError(f"The label “{shown(name)}” is there twice.")
        seen.add(same_label(name))
    return names
