"""`textmill label-sets`: labels kept under a name, so that jobs need not repeat them."""

from typing import Annotated

import typer

from api.cli.commands.label import Describe, DescriptionsFile, Labels, read_descriptions, read_labels, split_labels
from api.cli.terminal import completion
from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json, Yes

app = typer.Typer(no_args_is_help=True, help="Store, show, list and delete named sets of labels.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="What --label-set calls it.", autocompletion=completion.label_sets)]


@app.command("put")
def put_label_set(
    name: Name,
    labels: Labels = None,
    labels_file: Annotated[str | None, typer.Option("--labels-file", metavar="FILE", help="A file with one label a line.")] = None,
    template: Annotated[
        list[str] | None,
        typer.Option("--template", metavar="TEXT", help='How a label reads in a sentence, e.g. "news about {}"; may be repeated.'),
    ] = None,
    describe: Describe = None,
    descriptions_file: DescriptionsFile = None,
    as_json: Json = False,
) -> int:
    """Store labels under NAME; of a name that is there it becomes the next version."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, say, shown
    from api.cli.terminal.versions import what_stays
    from api.client import segment

    if bool(labels) == bool(labels_file):
        raise CommandError("Give the labels one way: --labels a,b,c or --labels-file FILE.")
    names = read_labels(labels_file) if labels_file else split_labels(labels or ())
    body: dict[str, object] = {"labels": names}
    if template:
        body["templates"] = template
    if descriptions := read_descriptions(describe, descriptions_file):
        body["descriptions"] = descriptions
    with connect() as client:
        stored = client.put(f"/v1/label_sets/{segment(name)}", body)
    if as_json:
        answer_json(stored)
    else:
        say(f"Stored {len(names):,} labels as {shown(name)}.", *what_stays(stored.get("version")))
    return ExitCode.OK


@app.command("list")
def list_label_sets(as_json: Json = False) -> int:
    """List the stored sets."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, shortened, table, when

    with connect() as client:
        sets = list(client.pages("/v1/label_sets"))
    if as_json:
        answer_json(sets)
        return ExitCode.OK
    rows = []
    for one in sets:
        labels = one.get("labels")
        names = [str(label) for label in labels] if isinstance(labels, list) else []
        rows.append((one.get("name", ""), one.get("version", ""), len(names), shortened(", ".join(names), 60), when(one.get("created_at"))))
    table(("NAME", "VERSION", "COUNT", "LABELS", "CREATED"), rows)
    return ExitCode.OK


@app.command("show")
def show_label_set(name: Name, as_json: Json = False) -> int:
    """Show the labels of a set, and its versions."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, shortened, table, when
    from api.client import segment

    with connect() as client:
        found = client.get(f"/v1/label_sets/{segment(name)}")
    if as_json:
        answer_json(found)
        return ExitCode.OK
    versions = found.get("versions")
    rows = []
    for one in versions if isinstance(versions, list) else []:
        rows.append((one["id"], len(one["labels"]), shortened(", ".join(one["labels"]), 60), when(one["created_at"])))
    table(("LABEL SET", "COUNT", "LABELS", "CREATED"), rows)
    return ExitCode.OK


@app.command("delete")
def delete_label_set(name: Name, yes: Yes = False, as_json: Json = False) -> int:
    """Delete a set with all its versions, or one of NAME@2. Jobs that began with it go on with it."""
    return delete("/v1/label_sets", name, "Deleted", as_json=as_json, ask=None if yes else "Delete the label set")
