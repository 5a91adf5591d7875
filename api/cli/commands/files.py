"""`textmill files` and `textmill models`: what lies on the server."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.terminal import completion
from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import ExitCode
from api.cli.terminal.options import Json, Yes
from api.cli.terminal.references import find_file, short_ids

if TYPE_CHECKING:
    from api.wire import FileInfo

app = typer.Typer(no_args_is_help=True, help="List and delete files.")
models_app = typer.Typer(no_args_is_help=True, help="List what can run.")


@app.command("list")
def list_files(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> int:
    """List files, newest first: those uploaded, and the results of jobs that have ended."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, table

    with connect() as client:
        files = list(islice(client.files(), limit))
    if as_json:
        answer_json(files)
    else:
        ids = short_ids(file.id for file in files)
        table(
            ("FILE", "PURPOSE", "STATE", "SIZE", "AGE", "EXPIRES", "NAME"),
            ((ids[one.id], one.purpose, one.status, *_figures(one), one.filename) for one in files),
            cut="NAME",
        )
    return ExitCode.OK


def _figures(file: "FileInfo") -> tuple[str, str, str]:
    from api.cli.terminal.progress import amount
    from api.cli.terminal.terminal import DATE, age, when

    return amount(file.bytes, "bytes"), age(file.created_at), when(file.expires_at)[:DATE]


@app.command("delete")
def delete_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file's id or its first digits, or `last`.", autocompletion=completion.files)
    ],
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Delete a file and its rows. Refused while a job still reads it."""
    return delete("/v1/files", file, "Deleted", as_json=as_json, ask=None if yes else "Delete file", find=find_file)


@models_app.command("list")
def list_models(as_json: Json = False) -> int:
    """List the models a job can name, and who has them loaded: by name where the workers are those of this machine's home."""
    from api.cli.terminal.connection import connect
    from api.cli.terminal.terminal import answer_json, table
    from api.cli.work.now import loaded_now

    with connect() as client:
        models = list(client.pages("/v1/models"))
    if as_json:
        answer_json(models)
    else:
        workers = loaded_now()
        table(("MODEL", "TASKS", "LICENCE", "LONGEST TEXT", "LOADED BY"), (_model_row(model, workers) for model in models), cut="LOADED BY")
    return ExitCode.OK


def _model_row(model: dict[str, object], workers: Mapping[str, Sequence[str]]) -> tuple[object, ...]:
    """``workers``: by model, the names of those that have it, as far as they are known."""
    extras = model.get("textmill")
    known = {**model, **extras} if isinstance(extras, dict) else model
    tasks = known.get("tasks")
    longest = known.get("max_tokens")
    return (
        known.get("id", ""),
        f"damaged: {damaged}" if (damaged := known.get("damaged")) else ", ".join(map(str, tasks)) if isinstance(tasks, list) else "",
        known.get("licence", ""),
        f"{longest} tokens" if longest else "" if known.get("owned_by") == "tenant" else "–",
        ", ".join(workers.get(str(known.get("id")), ())) or _counted(known.get("loaded_by")),
    )


def _counted(workers: object) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}" if workers else ""
