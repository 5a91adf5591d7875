"""`textmill prompts`: what is said to a model about each row, with places for its columns."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.definitions import app_of, read_source
from api.cli.terminal import completion
from api.cli.terminal.exits import ExitCode
from api.cli.terminal.options import Delimiter, Format, Json, TextColumn

app = app_of("/v1/prompts", "prompt", "--with-prompt ", "Store, show, try and remove prompts, which are filled in with a row's columns.")


@app.command("render")
def render_prompt(
    prompt: Annotated[
        str,
        typer.Argument(metavar="PROMPT", help="A stored one, NAME or NAME@2; or a file.", autocompletion=completion.prompts),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSONL, CSV, Parquet or plain lines; nothing of it leaves this machine.")],
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Of how many rows, from the first one.")] = 3,
    text_column: TextColumn = None,
    form: Format = None,
    delimiter: Delimiter = None,
    as_json: Json = False,
) -> int:
    """Show what the prompt makes of the first rows of FILE, and which of its columns it does not use, or misses."""
    from api.cli.terminal.terminal import answer, answer_json, say, shown, shown_lines
    from api.cli.work.prompts import compiled, render, with_any_text
    from api.cli.work.running import find_source

    written = read_source(prompt) if Path(prompt).is_file() else _stored(prompt)
    source = with_any_text(find_source(file, form, text_column=text_column, id_column=None, delimiter=delimiter))
    rendering = render(compiled(written), source, rows)
    if as_json:
        answer_json(rendering)
    else:
        for row in rendering.rows:
            say(f"Row {row.row} (line {row.line})" + ("" if row.message is None else f": {row.message}"))
            for turn in row.messages:
                say(f"{turn.role}:")
                answer(shown_lines(turn.content) if sys.stdout.isatty() else turn.content)
        for names, told in ((rendering.unused, "Not used"), (rendering.missing, "Not there")):
            if names:
                say(f"{told}: {', '.join(map(shown, names))}.")
    return ExitCode.ROWS_FAILED if rendering.missing or any(row.error for row in rendering.rows) else ExitCode.OK


@app.command("diff")
def diff_prompts(
    before: Annotated[str, typer.Argument(metavar="NAME@1", help="The one.", autocompletion=completion.prompts)],
    after: Annotated[str, typer.Argument(metavar="NAME@2", help="The other.", autocompletion=completion.prompts)],
) -> int:
    """Show what changed between two stored prompts, or two versions of one."""
    from difflib import unified_diff

    from api.cli.terminal.terminal import answer, console, shown, shown_lines

    one, other = (_stored(name).splitlines() for name in (before, after))
    lines = list(unified_diff(one, other, shown(before), shown(after), lineterm=""))
    if not sys.stdout.isatty():
        for line in lines:
            answer(line)
        return ExitCode.OK
    from rich.text import Text

    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        console().print(Text(shown_lines(line), style=styles.get(line[:1], "")), soft_wrap=True)
    return ExitCode.OK


def _stored(name: str) -> str:
    from api.cli.terminal.connection import connect
    from api.cli.work.prompts import stored_prompt

    with connect() as client:
        return stored_prompt(client, name)
