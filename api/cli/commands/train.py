"""`textmill train head` and `textmill heads`: a classifier of your own labels over a registry encoder."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from api.cli.terminal import completion
from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Delimiter, Format, IdColumn, Json, Model, Quiet, TextColumn, Yes

if TYPE_CHECKING:
    from api.client import Client
    from api.wire import Batch, Head

MOST_TOLD: Final = 20  # labels of one kind
MOST_CONFUSED: Final = 3  # pairs

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
    id_column: IdColumn = None,
    model: Model = None,
    form: Format = None,
    delimiter: Delimiter = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> int:
    """Train a head on the examples of FILE, and tell how well it does on examples it did not see."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.progress import show_progress
    from api.cli.terminal.terminal import answer_json, say, table
    from api.cli.terminal.versions import what_stays
    from api.cli.work.following import follow, let_go, say_why
    from api.cli.work.running import find_source, send

    source = find_source(file, form, text_column=text_column, id_column=id_column, label_column=label_column, delimiter=delimiter)
    name = name.removeprefix(completion.HEAD_PREFIX)
    with connect() as client:
        client.check_head(name, model=model)
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
        address = made_by(client, batch)
        head = None if address is None else client.head(address)
    if address is None or head is None:
        raise CommandError(
            f"The head was not made: all of its {batch.counts.total:,} examples failed. See why: textmill results {batch.id} --errors -o -",
            ExitCode.JOB_ENDED_BADLY,
            code="head_not_trained",
        )
    if as_json:
        answer_json({"job": batch.id, "head": head})
    else:
        say(*describe(head))
        if labels := label_table(head):
            table(("LABEL", "EXAMPLES", "FOUND", "RIGHT"), labels[:MOST_TOLD], stderr=True)
            if len(labels) > MOST_TOLD:
                say(f"… and {len(labels) - MOST_TOLD:,} labels that do better: textmill heads list --json")
        newest = not head.versions or head.versions[0].version == head.version
        called = _quoted(name if newest else address)
        say(*what_stays(head.version), f"Use it: textmill label FILE --head {_quoted(called)} -o OUT.jsonl")
    return ExitCode.ROWS_FAILED if batch.counts.failed else ExitCode.OK


@heads_app.command("list")
def list_heads(as_json: Json = False) -> int:
    """List trained heads."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import DATE, answer_json, table, when

    with connect() as client:
        heads = list(client.heads())
    if as_json:
        answer_json(heads)
        return ExitCode.OK
    short = sys.stdout.isatty()  # `heads show` tells all of one
    table(
        ("HEAD", "VERSION", "OVER", "LABELS", "EXAMPLES", "ACCURACY", "CREATED"),
        (
            (
                head.name,
                head.version,
                head.base,
                f"{len(head.labels):,}" if short else ", ".join(head.labels),
                sum(head.examples.values()),
                _accuracy(head),
                when(head.created_at)[: DATE if short else None],
            )
            for head in heads
        ),
        folds=("HEAD", "OVER"),
    )
    return ExitCode.OK


@heads_app.command("show")
def show_head(name: Name, as_json: Json = False) -> int:
    """Tell what is known of a head, and its versions."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer, answer_json, shown, table, when

    with connect() as client:
        head = client.head(name)
    if as_json:
        answer_json(head)
        return ExitCode.OK
    for line in describe(head):
        answer(line)
    answer(f"Labels: {', '.join(map(shown, head.labels))}.")
    table(("NAME", "VERSION", "CREATED"), ((one.id, one.version, when(one.created_at)) for one in head.versions or []))
    return ExitCode.OK


@heads_app.command("delete")
def delete_head(name: Name, yes: Yes = False, as_json: Json = False) -> int:
    """Delete a head with all its versions, or one of NAME@2. Jobs that began with it go on with it."""
    return delete("/v1/heads", name, "Deleted the head", as_json=as_json, ask=None if yes else "Delete the head")


def made_by(client: "Client", batch: "Batch") -> str | None:
    """What the training's own answers say that it made, with the version; None where no example was good. The newest version of a name may
    be the one from before, or another training's."""
    import msgspec

    if batch.output_file is None:
        return None
    answers = (msgspec.json.decode(line)["response"] for line in client.lines(batch.output_file))
    made = next((str(answer["body"]["model"]) for answer in answers if answer is not None and "model" in answer["body"]), None)
    return made and made.removeprefix(completion.HEAD_PREFIX)


def describe(head: "Head") -> list[str]:
    """What is known about its quality, in sentences."""
    from api.cli.terminal.terminal import shown

    examples = sum(head.examples.values())
    lines = [f"Head {shown(head.name)}: {len(head.labels)} labels, {examples:,} examples, over {shown(head.base)}."]
    if head.left_out:
        rare = ", ".join(f"{shown(label)} ({count})" for label, count in sorted(head.left_out.items())[:MOST_TOLD])
        more = f" and {len(head.left_out) - MOST_TOLD:,} more" if len(head.left_out) > MOST_TOLD else ""
        lines.append(f"Left out for too few examples, at least 2 of a label are needed: {rare}{more}.")
    if (found := head.metrics) is None:
        return lines
    sure = ""
    if found.accuracy_low is not None and found.accuracy_high is not None:
        sure = f" (95 % sure: {found.accuracy_low:.0%} to {found.accuracy_high:.0%})"
    lines.append(
        f"On examples held out from it: accuracy {found.accuracy:.1%}{sure}, macro-F1 {found.macro_f1:.1%}"
        f" ({found.repeats} × {found.folds} folds)."
    )
    if found.confusions:
        pairs = [f"{shown(one.label)} for {shown(one.taken_for)} ({one.share:.0%})" for one in found.confusions[:MOST_CONFUSED]]
        lines.append(f"Most often taken: {', '.join(pairs)}.")
    return lines


def label_table(head: "Head") -> list[tuple[str, int, str, str]]:
    """Label by label, those that are found least first; empty where that is not known."""
    found = {} if head.metrics is None else head.metrics.per_label
    worst = sorted(found.items(), key=lambda one: (one[1].recall, one[0]))
    return [(label, head.examples.get(label, 0), f"{one.recall:.0%}", f"{one.precision:.0%}") for label, one in worst]


def _accuracy(head: "Head") -> str:
    """With its interval, so that few examples do not look like many."""
    if (found := head.metrics) is None:
        return ""
    if found.accuracy_low is None or found.accuracy_high is None:
        return f"{found.accuracy:.0%}"
    return f"{found.accuracy:.0%} ({found.accuracy_low:.0%}–{found.accuracy_high:.0%})"


def _quoted(name: str) -> str:
    import shlex

    from api.cli.terminal.terminal import shown

    return shown(shlex.quote(name))
