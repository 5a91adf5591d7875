"""`textmill train head` and `textmill heads`: a classifier of your own labels over a registry encoder."""

from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal import completion
from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Delimiter, Format, Json, Model, Quiet, TextColumn

if TYPE_CHECKING:
    from api.wire import Head

app = typer.Typer(no_args_is_help=True, help="Train on your own examples.")
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="As `textmill heads list` shows it; NAME@2 for its second version.", autocompletion=completion.heads
    ),
]
heads_app = typer.Typer(no_args_is_help=True, help="List, show and delete trained heads.")


@app.callback()
def train() -> None:
    """Train on your own examples."""


@app.command("head")
def train_head(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="What --head and head:NAME will call it; of a name that is there it becomes the next version.",
            autocompletion=completion.heads,
        ),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Examples: JSONL, CSV or Parquet with a text and a label each; - is stdin.")],
    text_column: TextColumn = None,
    label_column: Annotated[str | None, typer.Option("--label-column", metavar="NAME", help="The column that holds the label.")] = None,
    model: Model = None,
    form: Format = None,
    delimiter: Delimiter = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Train a head on the examples of FILE, and tell how well it does on examples it did not see."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.progress import show_progress
    from api.cli.terminal.terminal import answer_json, say
    from api.cli.terminal.versions import what_stays
    from api.cli.work.following import follow, let_go, say_why
    from api.cli.work.running import find_source, send

    source = find_source(file, form, text_column=text_column, id_column=None, label_column=label_column, delimiter=delimiter)
    with connect() as client:
        uploaded = send(client, source, "train", quiet=quiet)
        batch = client.train_head(name, uploaded.id, model=model)
        try:
            with show_progress("Training", quiet=quiet) as progress:
                batch = follow(client, batch, progress)
        except KeyboardInterrupt:
            return let_go(client, batch, None)
        say_why(batch)
        if batch.status != "completed":
            if as_json:
                answer_json({"job": batch.id, "status": batch.status, "head": None})
            return ExitCode.JOB_ENDED_BADLY
        # Where no example was good, a head of this name is the one from before.
        head = client.head(name) if batch.counts.failed < batch.counts.total else None
    if head is None:
        raise CommandError(
            f"The head was not made: all of its {batch.counts.total:,} examples failed. See why: textmill results {batch.id} --errors -o -",
            ExitCode.JOB_ENDED_BADLY,
            code="head_not_trained",
        )
    if as_json:
        answer_json({"job": batch.id, "head": head})
    else:
        say(*describe(head), *what_stays(head.version), f"Use it: textmill label FILE --head {_quoted(name)} -o OUT.jsonl")
    return ExitCode.ROWS_FAILED if batch.counts.failed else ExitCode.OK


@heads_app.command("list")
def list_heads(as_json: Json = False) -> int:
    """List trained heads."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, table, when

    with connect() as client:
        heads = list(client.heads())
    if as_json:
        answer_json(heads)
        return ExitCode.OK
    table(
        ("HEAD", "VERSION", "OVER", "LABELS", "EXAMPLES", "ACCURACY", "CREATED"),
        (
            (
                head.name,
                head.version,
                head.base,
                ", ".join(head.labels),
                sum(head.examples.values()),
                f"{head.metrics.accuracy:.1%}" if head.metrics is not None else "",
                when(head.created_at),
            )
            for head in heads
        ),
    )
    return ExitCode.OK


@heads_app.command("show")
def show_head(name: Name, as_json: Json = False) -> int:
    """Tell what is known of a head, and its versions."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer, answer_json, table, when

    with connect() as client:
        head = client.head(name)
    if as_json:
        answer_json(head)
        return ExitCode.OK
    for line in describe(head):
        answer(line)
    table(("NAME", "VERSION", "CREATED"), ((one.id, one.version, when(one.created_at)) for one in head.versions or []))
    return ExitCode.OK


@heads_app.command("delete")
def delete_head(name: Name, as_json: Json = False) -> int:
    """Delete a head with all its versions, or one of NAME@2. Jobs that began with it go on with it."""
    return delete("/v1/heads", name, "Deleted the head", as_json=as_json)


def describe(head: "Head") -> list[str]:
    """What is known about its quality, in sentences."""
    from api.cli.terminal.terminal import shown

    examples = sum(head.examples.values())
    lines = [f"Head {shown(head.name)}: {len(head.labels)} labels, {examples:,} examples, over {shown(head.base)}."]
    if (found := head.metrics) is not None:
        lines.append(f"Cross-validated ({found.folds} folds): accuracy {found.accuracy:.1%}, macro-F1 {found.macro_f1:.1%}.")
    return lines


def _quoted(name: str) -> str:
    import shlex

    from api.cli.terminal.terminal import shown

    return shown(shlex.quote(name))
