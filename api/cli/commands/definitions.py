"""What the commands of all kinds of definitions share: add, list, show, remove."""

from pathlib import Path
from typing import Annotated, Final

import typer

from api.cli.terminal.deleting import delete
from api.cli.terminal.exits import CommandError, ExitCode
from api.cli.terminal.options import Json, Yes

MAX_FILE_BYTES: Final = 4 * 2**20

File = Annotated[str, typer.Argument(metavar="FILE", help="The file; - is stdin.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What jobs call it.")]


def read_source(path: str) -> str:
    """Raises CommandError."""
    try:
        content = typer.get_binary_stream("stdin").read(MAX_FILE_BYTES + 1) if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"The file could not be read: {error.strerror or 'unknown error'}.") from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"The file is larger than {MAX_FILE_BYTES // 2**20} MiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError("The file is not valid UTF-8.") from None


def cells_of(given: list[str] | None) -> dict[str, str]:
    """Of `--cell COLUMN=VALUE`. Raises CommandError."""
    cells = {}
    for one in given or []:
        column, sign, value = one.partition("=")
        if not sign:
            raise CommandError("A cell is COLUMN=VALUE, such as --cell price=12.50.")
        cells[column] = value
    return cells


def app_of(path: str, one: str, option: str, about: str) -> typer.Typer:
    """``path``: the API's; ``one``: what sentences call one; ``option``: of a job, up to its name."""
    app = typer.Typer(no_args_is_help=True, help=about)

    @app.command("add", help=f"Store the {one} of FILE as NAME; of a name that is there it becomes the next version.")
    def add(name: Name, file: File, as_json: Json = False) -> int:
        from api.cli.terminal.connection import connect
        from api.cli.terminal.terminal import answer_json, say, shown
        from api.cli.terminal.versions import what_stays
        from api.client import segment

        source = read_source(file)
        with connect() as client:
            stored = client.put(f"{path}/{segment(name)}", {"source": source})
        if as_json:
            answer_json(stored)
        else:
            say(f"Stored as {shown(name)}: {shown(option + name)}.", *what_stays(stored.get("version")))
        return ExitCode.OK

    @app.command("list", help="List the newest version of each.")
    def list_all(as_json: Json = False) -> int:
        from api.cli.terminal.connection import connect
        from api.cli.terminal.terminal import answer_json, table, when

        with connect() as client:
            found = list(client.pages(path))
        if as_json:
            answer_json(found)
            return ExitCode.OK
        rows = [
            (each.get("name", ""), each.get("version", ""), len(str(each.get("source", ""))), when(each.get("created_at")))
            for each in found
        ]
        table(("NAME", "VERSION", "CHARACTERS", "CREATED"), rows)
        return ExitCode.OK

    @app.command("show", help="Show the file as it was stored, or as NAME@2 says.")
    def show(name: Name, as_json: Json = False) -> int:
        from api.cli.terminal.connection import connect
        from api.cli.terminal.terminal import answer_json, say, shown
        from api.client import segment

        with connect() as client:
            found = client.get(f"{path}/{segment(name)}")
        if as_json:
            answer_json(found)
            return ExitCode.OK
        for line in str(found["source"]).splitlines():
            print(shown(line))
        versions = found.get("versions")
        if isinstance(versions, list) and len(versions) > 1:
            say(f"Versions: {', '.join(shown(str(version['id'])) for version in versions)}.")
        return ExitCode.OK

    @app.command("remove", help="Delete it with all its versions, or one of NAME@2. Jobs that began with it go on with it.")
    def remove(name: Name, yes: Yes = False, as_json: Json = False) -> int:
        return delete(path, name, "Deleted", as_json=as_json, ask=None if yes else f"Delete the {one}")

    return app
